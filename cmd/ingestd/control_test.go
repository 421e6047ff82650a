package main

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// A daemon that runs is asked for a checkpoint, to pause and to go on; one that does not run is named, and others may not ask.
func TestControl_ofARunningDaemon(t *testing.T) {
	h, b, addr := newHome(t), newBroker(t), freePort(t)
	h.write("my.toml", strings.Replace(listening(kafkaFlow(b.addr, letters), addr), `interval = "100ms"`, `interval = "1h"`, 1))
	h.run("pause", "p", "-c", "my.toml").want(t, 1, "does not answer", "start it")
	b.produce(10)
	d := h.startArgs()
	eventually(t, "it runs", func() bool { _, page := get(t, addr, "/readyz"); return strings.Contains(page, "running") })
	eventually(t, "a checkpoint with 10 rows", func() bool {
		h.run("checkpoint", "now", "p", "-c", "my.toml").want(t, 0)
		return len(h.rows("out")) == 10
	})
	h.run("pause", "p", "-c", "my.toml").want(t, 0, "paused")
	if code, page := get(t, addr, "/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(page, "ingestd resume p") {
		t.Errorf("readyz of a paused pipeline: %d %s", code, page)
	}
	<-time.After(1500 * time.Millisecond) // a fetch may be under way
	b.produce(10)
	h.run("checkpoint", "now", "p", "-c", "my.toml").want(t, 0)
	if n := len(h.rows("out")); n != 10 {
		t.Errorf("%d rows of a paused pipeline, want 10", n)
	}
	h.run("resume", "p", "-c", "my.toml").want(t, 0, "reads on")
	eventually(t, "20 rows", func() bool {
		h.run("checkpoint", "now", "p", "-c", "my.toml").want(t, 0)
		return len(h.rows("out")) == 20
	})
	h.run("pause", "q", "-c", "my.toml").want(t, 2, `no pipeline "q"`)
	resp, err := http.Post("http://"+addr+"/pipelines/p/pause", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("a page in a browser is answered %s, %v", resp.Status, err)
	}
	d.signal(os.Interrupt)
	if code := d.code(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
