#!/bin/sh
# Make the media segments in this folder: FFMPEG=/path/to/ffmpeg sh make_segments.sh
# They are committed so that the tests need no ffmpeg. Made with ffmpeg 9.0.2.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
run() { "${FFMPEG:-ffmpeg}" -hide_banner -loglevel error -nostdin -y -fflags +bitexact "$@"; }
picture="-f lavfi -i testsrc2=s=64x36:r=10:d=2"
tone="-f lavfi -i sine=f=440:r=44100:d=2"
tone48="-f lavfi -i sine=f=440:r=48000:d=1"
h264="-c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -threads 1 -g 10 -keyint_min 10 -sc_threshold 0 -crf 40"
aac="-c:a aac -b:a 32k -ac 1"
segments="-f hls -hls_time 1 -hls_list_size 0"

# MPEG-TS: the second of two segments of 1 s
ts() { name=$1; shift; run "$@" $segments -hls_segment_filename "$work/$name-%d.ts" "$work/$name.m3u8"; cp "$work/$name-1.ts" "$name.ts"; }
ts h264-aac $picture $tone $h264 $aac
ts h264 $picture $h264
ts aac $tone $aac
ts hevc-aac $picture $tone -c:v libx265 -preset ultrafast -x265-params log-level=error:keyint=10:min-keyint=10:scenecut=0:pools=1 -crf 40 $aac
ts mpeg2-mp2 $picture $tone -c:v mpeg2video -r 25 -g 25 -b:v 50k -c:a mp2 -b:a 64k -ac 1
ts h264-ac3 $picture $tone $h264 -c:a ac3 -b:a 64k -ac 1
# cut in the middle of a group of pictures
run $picture $h264 -g 100 -keyint_min 100 -f hls -hls_time 1 -hls_list_size 0 -hls_flags split_by_time \
    -hls_segment_filename "$work/cut-%d.ts" "$work/cut.m3u8"
cp "$work/cut-1.ts" h264-without-key-frame.ts

# fMP4: the initialization section and the second segment
fmp4() { name=$1; shift; run "$@" $segments -hls_segment_type fmp4 -hls_fmp4_init_filename "$name-init.mp4" \
    -hls_segment_filename "$work/$name-%d.m4s" "$work/$name.m3u8"; cp "$work/$name-init.mp4" .; cp "$work/$name-1.m4s" "$name.m4s"; }
fmp4 h264-aac $picture $tone $h264 $aac
fmp4 aac $tone $aac
fmp4 hevc $picture -c:v libx265 -tag:v hvc1 -preset ultrafast -x265-params log-level=error:keyint=10:min-keyint=10:scenecut=0:pools=1 -crf 40
run $picture $tone $h264 $aac -f mp4 -movflags empty_moov+default_base_moof+frag_keyframe -encryption_scheme cenc-aes-ctr \
    -encryption_key 000102030405060708090a0b0c0d0e0f -encryption_kid 000102030405060708090a0b0c0d0e0f encrypted.mp4

# audio without container
run $tone $aac -t 1 -f adts -write_id3v2 1 packed.aac
run $tone48 -c:a libmp3lame -b:a 32k -ac 1 -id3v2_version 0 -write_xing 0 packed.mp3
run $tone48 -c:a ac3 -b:a 64k -ac 1 packed.ac3
run $tone48 -c:a eac3 -b:a 64k -ac 1 packed.eac3
