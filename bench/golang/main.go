// Serves the samples of a text exposition with client_golang: in memory, or over HTTP.
package main

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sort"
	"strconv"
	"strings"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

type family struct {
	Name   string     `json:"name"`
	Kind   string     `json:"kind"`
	Help   string     `json:"help"`
	Labels []string   `json:"labels"`
	Rows   [][]string `json:"rows"`
	Values []float64  `json:"values"`
	desc   *prometheus.Desc
}

type collector []*family

func (c collector) Describe(descs chan<- *prometheus.Desc) {
	for _, f := range c {
		descs <- f.desc
	}
}

func (c collector) Collect(metrics chan<- prometheus.Metric) {
	for _, f := range c {
		kind := prometheus.GaugeValue
		if f.Kind == "counter" {
			kind = prometheus.CounterValue
		}
		for i, row := range f.Rows {
			metrics <- prometheus.MustNewConstMetric(f.desc, kind, f.Values[i], row...)
		}
	}
}

func read(path string) collector {
	file, err := os.Open(path)
	if err != nil {
		panic(err)
	}
	defer file.Close()
	packed, err := gzip.NewReader(bufio.NewReader(file))
	if err != nil {
		panic(err)
	}
	var families collector
	known := map[string][]string{}
	decoder := json.NewDecoder(packed)
	for {
		f := &family{}
		if err := decoder.Decode(f); err == io.EOF {
			return families
		} else if err != nil {
			panic(err)
		}
		// share a stream's label values in memory, as an exporter does
		for i, row := range f.Rows {
			key := strings.Join(row, "\x00")
			if known[key] == nil {
				known[key] = row
			}
			f.Rows[i] = known[key]
		}
		f.desc = prometheus.NewDesc(f.Name, f.Help, f.Labels, nil)
		families = append(families, f)
	}
}

func cpu() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}

type counting struct {
	header http.Header
	bytes  int
}

func (c *counting) Header() http.Header { return c.header }
func (c *counting) WriteHeader(int)     {}
func (c *counting) Write(p []byte) (int, error) {
	c.bytes += len(p)
	return len(p), nil
}

func scrape(handler http.Handler, encoding string, repetitions int) (median float64, bytes int) {
	var seconds []float64
	for i := 0; i < repetitions; i++ {
		request := httptest.NewRequest("GET", "/metrics", nil)
		request.Header.Set("Accept-Encoding", encoding)
		writer := &counting{header: http.Header{}}
		began := cpu()
		handler.ServeHTTP(writer, request)
		seconds = append(seconds, cpu()-began)
		bytes = writer.bytes
	}
	sort.Float64s(seconds)
	return seconds[len(seconds)/2], bytes
}

func main() {
	families := read(os.Args[1])
	registry := prometheus.NewRegistry()
	registry.MustRegister(families)
	handler := promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	if os.Args[2] == "serve" {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			panic(err)
		}
		fmt.Println(listener.Addr().(*net.TCPAddr).Port)
		panic(http.Serve(listener, handler))
	}
	repetitions, err := strconv.Atoi(os.Args[2])
	if err != nil {
		panic(err)
	}
	plain, bytes := scrape(handler, "identity", repetitions)
	packed, packedBytes := scrape(handler, "gzip", repetitions)
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	samples := 0
	for _, f := range families {
		samples += len(f.Values)
	}
	_ = json.NewEncoder(os.Stdout).Encode(map[string]float64{
		"update": 0, "read": 0, "plain": plain, "gzip": packed, "bytes": float64(bytes), "gzip bytes": float64(packedBytes),
		"samples": float64(samples), "peak": float64(usage.Maxrss) * 1024,
	})
}
