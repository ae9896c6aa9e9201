"""What the reference page of the configuration says besides its tables."""

INTRODUCTION = """\
# Configuration

<!-- Made from the settings' classes by `make generate`; edit exporter/config/ and exporter/platforms/ instead. -->

`stream-exporter --config.file=config.yaml` reads one YAML file; [config.example.yaml](../config.example.yaml) shows
every key. `stream-exporter --config.check` checks it and says what it costs in requests. `GET /config` shows what is in
effect, without secrets.

## How it is read

- **Every error is reported at once**, each as `FILE:LINE:COL: path.to.key: found X, allowed Y`. Unknown and repeated
  keys are errors. What stands under `auth`, `url` and `headers`, and any other secret, is never shown.
- **YAML** is read by the rules of YAML 1.2: `14:00` and `no` are text where text is wanted; `true`, `yes` and `on`
  are all true where a truth value is wanted. A number where text is wanted needs quotes. `null` counts as if the key
  were not there. Anchors, aliases and `<<` work; tags do not.
- **Durations** are written as in Prometheus: `500ms`, `15s`, `1m30s`, `7d`; units `ms s m h d w y`. **Sizes**:
  `512kB`, `10MB`, `16MiB`, or a number of bytes. **Bitrates** are in bits per second: `800kbps`, `2.5Mbps`.
- **Paths** that are relative begin at the folder of the configuration file.
- **A value in `defaults`** beats a platform's own default; an upstream's own value beats both. A mapping such as
  `tls` is taken as a whole.
- **Reload** by SIGHUP or, with `--web.enable-lifecycle`, `POST /-/reload`. All is checked first; a bad file changes
  nothing. An upstream whose settings did not change goes on as it is.

### Secrets

A secret `X` is given in one of three ways:

| key | meaning |
|---|---|
| `X_file` | a file that holds it, without one newline at its end; read again when it changes, without a reload |
| `X_env` | the name of an environment variable that holds it |
| `X` | the secret itself |

A file that is missing or empty is an error; one that every user of the machine may read is a warning, and so is
such a configuration file with a secret in it. Systemd
credentials and secrets that Kubernetes mounts are files.

### Environment

A variable overrides the file: `STREAM_EXPORTER_` and the path of the key in capitals, with `__` between its parts.
`STREAM_EXPORTER_DEFAULTS__INTERVAL=30s` is `defaults.interval`. It reaches keys of mappings; items of lists have no
such path, but a whole list can be given as YAML (`STREAM_EXPORTER_UPSTREAMS='[{name: …}]'`). Names of rules and
labels keep their case (`STREAM_EXPORTER_ALERTING__THRESHOLDS__StreamUnhealthy=0.5`). An empty variable counts as not
set, `null` takes the file's value away, and an unknown `STREAM_EXPORTER_` variable is an error. Variables that
Kubernetes sets for a Service of this name, and those that an `…_env` key names, are left alone.
"""

AUTH = """\
One of: nothing, `username` with a password, a bearer token, an API key. What a platform can't use is refused: see
there.
"""

HOURS = """\
One item of a list under `expected`. Hours that end before they begin pass midnight and belong to the day on which
they began.
"""

STREAMS = """\
What may be said of each stream (or session) that an upstream names, besides what identifies it on its platform.
"""

UPSTREAMS = """\
A list with at least one item. Each has the keys below, those of `defaults`, and those of its platform.
"""

THRESHOLDS = """\
By the name of a rule: a number in the base unit of its metric, or this mapping.
"""
