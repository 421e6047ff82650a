package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// freePort is an address of this machine that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// get returns the status and the body of a page; 0 while nobody listens.
func get(t *testing.T, addr, page string) (int, string) {
	t.Helper()
	resp, err := http.Get("http://" + addr + page)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func listening(text, addr string) string {
	return strings.Replace(text, `listen = ""`, fmt.Sprintf("listen = %q", addr), 1)
}

// Over HTTP: alive from the start, ready when every pipeline does its work, and the metrics of what it does.
func TestListen_healthAndMetrics(t *testing.T) {
	h, b, addr := newHome(t), newBroker(t), freePort(t)
	h.write("my.toml", listening(kafkaFlow(b.addr, letters), addr))
	b.produce(100)
	d := h.start("my.toml")
	eventually(t, "ready", func() bool {
		code, body := get(t, addr, "/readyz")
		return code == 200 && body == "[+] p running\n"
	})
	if code, body := get(t, addr, "/livez"); code != 200 || body != "ok\n" {
		t.Errorf("livez: got %d, %q", code, body)
	}
	eventually(t, "the counters of 100 records", func() bool {
		_, body := get(t, addr, "/metrics")
		return strings.Contains(body, "ingestd_source_records_total{pipeline=\"p\"} 100\n") &&
			strings.Contains(body, `ingestd_stage_records_total{pipeline="p",result="passed",stage="sink:sink"} 100`) &&
			strings.Contains(body, `ingestd_sink_prepared_rows_total{pipeline="p",sink="sink"} 100`)
	})
	eventually(t, "a committed checkpoint", func() bool {
		_, body := get(t, addr, "/metrics")
		return strings.Contains(body, "ingestd_checkpoint_last_committed_timestamp_seconds{")
	})
	_, body := get(t, addr, "/metrics")
	for _, want := range []string{
		`ingestd_pipeline_state{pipeline="p",state="running"} 1`, `ingestd_sink_commit_outcomes_total{outcome="committed",pipeline="p",sink="sink"}`,
		`ingestd_checkpoint_duration_seconds_count{phase="total",pipeline="p"}`, `ingestd_source_lag_records{pipeline="p",split="events/0"}`,
		"ingestd_checkpoint_last_committed_timestamp_seconds", "ingestd_memory_budget_bytes ", "ingestd_memory_used_bytes ", "process_cpu_seconds_total",
		`ingestd_guarantee_info{guarantee="exactly-once: `, `ingestd_build_info{`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	if code, _ := get(t, addr, "/"); code != 404 {
		t.Errorf("another page: got %d, want 404", code)
	}
	d.signal(syscall.SIGTERM)
	if code := d.code(); code != 0 {
		t.Errorf("got exit code %d:\n%s", code, d.out)
	}
}

// Not ready, with the reason: while a broker is away at the start, and when a pipeline is stopped while another runs.
func TestListen_notReadyNamesTheReason(t *testing.T) {
	h, b, addr := newHome(t), newBroker(t), freePort(t)
	stopped := strings.ReplaceAll(kafkaFlow(b.addr, ""), "pipeline.p", "pipeline.strict")
	stopped = strings.ReplaceAll(stopped[strings.Index(stopped, "[pipeline"):], `"out"`, `"out2"`)
	away := strings.ReplaceAll(kafkaFlow("127.0.0.1:1", letters), "pipeline.p", "pipeline.away")
	away = strings.ReplaceAll(away[strings.Index(away, "[pipeline"):], `"out"`, `"out3"`)
	h.write("my.toml", listening(kafkaFlow(b.addr, letters)+stopped+away, addr))
	b.produceText("nonsense")
	h.start("my.toml")
	var body string
	eventually(t, "all three states", func() bool {
		var code int
		code, body = get(t, addr, "/readyz")
		return code == 503 && strings.Contains(body, "[+] p running\n") && strings.Contains(body, "[-] strict stopped: ") && strings.Contains(body, "[-] away starting: source since ") && strings.Contains(body, "look for splits\n")
	})
	if !strings.Contains(body, "1 records were refused and there is no dead-letter sink; the first: decode of split events/0, offset 0") {
		t.Errorf("the stopped pipeline's reason is not there:\n%s", body)
	}
	if n := strings.Count(body, "\n"); n != 3 {
		t.Errorf("%d lines, want one for each pipeline:\n%s", n, body)
	}
	if code, _ := get(t, addr, "/livez"); code != 200 {
		t.Errorf("livez: got %d, want 200", code)
	}
}

// spoil waits until the daemon has begun and puts a file where the sink needs a folder: commits fail until it is undone.
func (h home) spoil() (undo func()) {
	h.t.Helper()
	const ledger, saved = "out/_committed/p.0.sink", "out/saved"
	eventually(h.t, "the sink is open", func() bool {
		_, err := os.Stat(ledger)
		return err == nil
	})
	if err := os.Rename(ledger, saved); err != nil {
		h.t.Fatal(err)
	}
	h.write(ledger, "")
	return func() {
		if err := os.Remove(ledger); err != nil {
			h.t.Fatal(err)
		}
		if err := os.Rename(saved, ledger); err != nil {
			h.t.Fatal(err)
		}
	}
}

// A stall is in /readyz, with who, what and for how long, and goes away.
func TestListen_stallIsNamed(t *testing.T) {
	h, b, addr := newHome(t), newBroker(t), freePort(t)
	h.write("my.toml", strings.Replace(listening(kafkaFlow(b.addr, letters), addr), "[daemon]\n", "[daemon]\nstall_after = \"1s\"\n", 1))
	h.start("my.toml")
	undo := h.spoil()
	b.produce(10)
	eventually(t, "the stalled sink", func() bool {
		code, body := get(t, addr, "/readyz")
		return code == 503 && strings.HasPrefix(body, "[-] p running stalled: sink sink since ") && strings.Contains(body, "commit of checkpoint ")
	})
	_, body := get(t, addr, "/metrics")
	if !strings.Contains(body, `ingestd_stalled{pipeline="p"} 1`) || !strings.Contains(body, `ingestd_stalled_seconds{by="sink sink",pipeline="p"}`) {
		t.Error("the metrics do not name the stall")
	}
	undo()
	eventually(t, "ready", func() bool {
		code, body := get(t, addr, "/readyz")
		return code == 200 && body == "[+] p running\n"
	})
}

// One daemon at a time uses a data directory: the second ends at once, names the first, and says what leads on.
func TestLock_secondDaemonEndsAtOnce(t *testing.T) {
	h, b, addr := newHome(t), newBroker(t), freePort(t)
	h.write("my.toml", listening(kafkaFlow(b.addr, letters), addr))
	first := h.start("my.toml")
	eventually(t, "the first daemon runs", func() bool { code, _ := get(t, addr, "/readyz"); return code == 200 })
	began := time.Now()
	second := h.start("my.toml")
	if code := second.code(); code != 3 {
		t.Errorf("got exit code %d, want 3", code)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	want := "data directory data is in use by process " + strconv.Itoa(first.cmd.Process.Pid)
	if out := second.out.String(); !strings.Contains(out, want) || !strings.Contains(out, "next: stop that daemon, or give this one a data directory of its own") {
		t.Errorf("got\n%s\nwant %q and what leads on", out, want)
	}
	if code, _ := get(t, addr, "/readyz"); code != 200 {
		t.Errorf("the first daemon: got %d, want 200", code)
	}
	first.signal(syscall.SIGKILL)
	first.code()
	third := h.start("my.toml") // the lock ends with its process
	eventually(t, "the third daemon runs", func() bool { code, _ := get(t, addr, "/readyz"); return code == 200 })
	third.signal(syscall.SIGTERM)
	if code := third.code(); code != 0 {
		t.Errorf("got exit code %d:\n%s", code, third.out)
	}
}

// systemd hears when the daemon is ready and when it stops, by one datagram each.
func TestNotify_readyAndStopping(t *testing.T) {
	h, b := newHome(t), newBroker(t)
	h.write("my.toml", kafkaFlow(b.addr, letters))
	socket := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	next := func() string {
		t.Helper()
		if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 1024)
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
	d := h.start("my.toml", "NOTIFY_SOCKET="+socket)
	if got := next(); got != "READY=1\nSTATUS=running" {
		t.Errorf("got %q, want ready", got)
	}
	d.signal(syscall.SIGTERM) // ready means that a signal is obeyed
	if got := next(); !strings.HasPrefix(got, "STOPPING=1") {
		t.Errorf("got %q, want stopping", got)
	}
	if code := d.code(); code != 0 {
		t.Errorf("got exit code %d:\n%s", code, d.out)
	}
}

// SIGTERM and SIGINT: what was read is in the sink, nothing is pending, exit code 0.
func TestSignal_gracefulStop(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(s.String(), func(t *testing.T) {
			h, b := newHome(t), newBroker(t)
			h.write("my.toml", strings.Replace(kafkaFlow(b.addr, letters), `"100ms"`, `"1h"`, 1)) // only the stop brings a checkpoint
			b.produce(100)
			d := h.start("my.toml")
			eventually(t, "it runs", func() bool { return strings.Contains(d.out.String(), "pipeline starts") && len(h.inProgress()) > 0 })
			d.signal(s)
			if code := d.code(); code != 0 {
				t.Fatalf("got exit code %d:\n%s", code, d.out)
			}
			if n := len(h.rows("out")); n == 0 {
				t.Error("no rows: there was no final checkpoint")
			}
			if len(h.inProgress()) != 0 {
				t.Errorf("%q are in progress still", h.inProgress())
			}
			h.whileRunning("every row", func() bool { return true })
			h.whileRunning("every row", func() bool { return true })
		})
	}
}

// inProgress lists the files that the sink has begun.
func (h home) inProgress() []string {
	files, err := filepath.Glob("out/.ingestd/*/progress/*")
	if err != nil {
		h.t.Fatal(err)
	}
	return files
}

// When a commit can't be done in shutdown_timeout it is named, the exit code is 0, and the next start finishes it.
func TestSignal_commitThatIsLeftIsNamed(t *testing.T) {
	h, b := newHome(t), newBroker(t)
	h.write("my.toml", strings.Replace(kafkaFlow(b.addr, letters), `shutdown_timeout = "5s"`, `shutdown_timeout = "1s"`, 1))
	d := h.start("my.toml")
	undo := h.spoil()
	b.produce(10)
	eventually(t, "a commit fails", func() bool { return strings.Contains(d.out.String(), "commit is not done") })
	d.signal(syscall.SIGTERM)
	if code := d.code(); code != 0 {
		t.Errorf("got exit code %d:\n%s", code, d.out)
	}
	if out := d.out.String(); !strings.Contains(out, `msg="left to commit by the next start" pipeline=p sink=sink committables=`) {
		t.Errorf("what is left is not named:\n%s", out)
	}
	undo()
	h.whileRunning("10 rows", func() bool { return len(h.rows("out")) == 10 })
}

// A second signal ends the daemon at once, with a code that is no success, and the next start goes on.
func TestSignal_secondEndsAtOnce(t *testing.T) {
	h, b := newHome(t), newBroker(t)
	h.write("my.toml", strings.Replace(kafkaFlow(b.addr, letters), `shutdown_timeout = "5s"`, `shutdown_timeout = "1h"`, 1))
	d := h.start("my.toml")
	undo := h.spoil()
	b.produce(10)
	eventually(t, "a commit fails", func() bool { return strings.Contains(d.out.String(), "commit is not done") })
	d.signal(syscall.SIGTERM)
	eventually(t, "it stops", func() bool { return strings.Contains(d.out.String(), "stopping: final checkpoint and commit") })
	began := time.Now()
	d.signal(syscall.SIGTERM)
	if code := d.code(); code != 1 {
		t.Errorf("got exit code %d, want 1:\n%s", code, d.out)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	if out := d.out.String(); !strings.Contains(out, "ended at once by a second signal; the next start goes on by recovery") {
		t.Errorf("it does not say what happened:\n%s", out)
	}
	undo()
	h.whileRunning("10 rows", func() bool { return len(h.rows("out")) == 10 })
}

// Not even what never answers keeps it from ending at a second signal.
func TestSignal_secondDoesNotWaitForTheDeaf(t *testing.T) {
	h, b, addr := newHome(t), newBroker(t), freePort(t)
	h.write("my.toml", strings.Replace(listening(kafkaFlow(b.addr, ""), addr), `type = "file", path = "out", roll = { every_checkpoint = true }`, `type = "deaf"`, 1))
	d := h.start("my.toml")
	eventually(t, "it is at what never answers", func() bool {
		_, body := get(t, addr, "/readyz")
		return strings.HasPrefix(body, "[-] p starting: sink sink since ") && strings.HasSuffix(body, ": fence\n")
	})
	d.signal(syscall.SIGTERM)
	eventually(t, "it stops", func() bool { return strings.Contains(d.out.String(), "stopping: final checkpoint and commit") })
	d.signal(syscall.SIGTERM)
	if code := d.code(); code != 1 {
		t.Errorf("got exit code %d, want 1:\n%s", code, d.out)
	}
}

// SIGKILL at any moment: the next start goes on, and every record is there once.
func TestSignal_killIsSafe(t *testing.T) {
	h, b := newHome(t), newBroker(t)
	h.write("my.toml", strings.Replace(kafkaFlow(b.addr, letters), `"100ms"`, `"20ms"`, 1))
	for n := range 5 {
		d := h.start("my.toml")
		b.produce(50)
		eventually(t, "some rows", func() bool { return len(h.rows("out")) > n*50 })
		d.signal(syscall.SIGKILL)
		d.code()
	}
	h.whileRunning("250 rows", func() bool { return len(h.rows("out")) >= 250 })
	seen := map[string]bool{}
	for _, r := range h.rows("out") {
		if seen[r] {
			t.Errorf("row %s is there twice", r)
		}
		seen[r] = true
	}
	if len(seen) != 250 {
		t.Errorf("got %d records, want 250", len(seen))
	}
}
