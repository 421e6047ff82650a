package filestore_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/checkpoint/filestore"
	"github.com/ingestd/ingestd/fault"
)

// roleVariable makes the test binary another process of a test.
const roleVariable = "INGESTD_FILESTORE_ROLE"

func TestMain(m *testing.M) {
	role, dir, _ := strings.Cut(os.Getenv(roleVariable), " ")
	var err error
	switch role {
	case "":
		os.Exit(m.Run())
	case "lock":
		err = holdLock(dir)
	case "write":
		err = writeForEver(dir)
	case "race":
		err = race(dir)
	default:
		err = fmt.Errorf("role %q", role)
	}
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		os.Exit(1)
	}
}

// holdLock takes the data directory until it is killed, or its standard input ends.
func holdLock(dir string) error {
	l, err := filestore.Lock(dir)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, "locked")
	_, err = io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, l.Close())
}

// writeForEver creates objects until it is killed and prints the name of each that was confirmed.
func writeForEver(dir string) error {
	s, err := filestore.Open(dir)
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		name := fmt.Sprintf("p/log/0/%06d", i)
		if err := s.Create(context.Background(), name, object(name)); err != nil {
			return err
		}
		fmt.Fprintln(os.Stdout, name)
	}
}

// race tries to create each of a row of objects and prints which it created.
func race(dir string) error {
	s, err := filestore.Open(dir)
	if err != nil {
		return err
	}
	for i := range raceObjects {
		err := s.Create(context.Background(), fmt.Sprintf("p/log/0/%06d", i), []byte(strconv.Itoa(os.Getpid())))
		switch {
		case err == nil:
			fmt.Fprintln(os.Stdout, i)
		case !errors.Is(err, checkpoint.ErrExists):
			return err
		}
	}
	return s.Close()
}

const raceObjects = 300

func object(name string) []byte { return bytes.Repeat([]byte(name+"\n"), 1000) }

// child is another process.
type child struct {
	*exec.Cmd
	out   *bufio.Scanner
	stdin io.Closer
}

func start(t *testing.T, role, dir string) *child {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+role+" "+dir)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &child{cmd, bufio.NewScanner(out), stdin}
}

// kill ends the process without any chance to tidy up, and returns the lines that it had printed by then.
func (c *child) kill(t *testing.T) []string {
	t.Helper()
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	lines := c.lines()
	c.Wait()
	return lines
}

func (c *child) lines() []string {
	var lines []string
	for c.out.Scan() {
		lines = append(lines, c.out.Text())
	}
	return lines
}

// Goal: a second daemon on a data directory stops at once and names the first; a daemon that was killed holds nothing.
func TestLock_isHeldByOneProcessUntilItEnds(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	first := start(t, "lock", dir)
	if !first.out.Scan() || first.out.Text() != "locked" {
		t.Fatalf("got %q from the first process, want it to have the lock", first.out.Text())
	}
	_, err := filestore.Lock(dir)
	if err == nil || fault.KindOf(err) != fault.Misconfigured {
		t.Fatalf("got %v while another process has the lock, want fault.Misconfigured", err)
	}
	if want := fmt.Sprintf("process %d", first.Process.Pid); !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %q, want it to name %q and the directory", err, want)
	}
	if fault.RemedyOf(err) == "" {
		t.Error("got no remedy, want one")
	}
	first.kill(t)
	l, err := filestore.Lock(dir)
	if err != nil {
		t.Fatalf("got %v after the holder was killed, want the lock", err)
	}
	if _, err := filestore.Lock(dir); err == nil {
		t.Error("got the lock twice in one process, want an error")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := filestore.Lock(dir)
	if err != nil {
		t.Fatalf("got %v after Close, want the lock", err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

// Goal: of several processes one creates each object, and its bytes are there.
func TestStore_hasOneWinnerAmongProcesses(t *testing.T) {
	dir := t.TempDir()
	var racers []*child
	for range 4 {
		racers = append(racers, start(t, "race", dir))
	}
	winner := map[string]string{}
	for _, c := range racers {
		for _, line := range c.lines() {
			if _, err := strconv.Atoi(line); err != nil {
				t.Fatalf("a racer said %q", line)
			}
			if other, taken := winner[line]; taken {
				t.Errorf("processes %s and %d both created %s", other, c.Process.Pid, line)
			}
			winner[line] = strconv.Itoa(c.Process.Pid)
		}
		if err := c.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, dir)
	for i := range raceObjects {
		data, err := s.Get(t.Context(), fmt.Sprintf("p/log/0/%06d", i))
		if err != nil || string(data) != winner[strconv.Itoa(i)] {
			t.Errorf("object %d: got %q, %v, want the winner's %q", i, data, err, winner[strconv.Itoa(i)])
		}
	}
}

// Goal: a process that is killed leaves whole objects, every confirmed one among them, and nothing in the way of the next.
// Method: it is killed while it writes, five times, each time after it confirmed a few more objects.
func TestStore_survivesKill(t *testing.T) {
	for round := range 5 {
		dir := t.TempDir()
		c := start(t, "write", dir)
		var confirmed []string
		for range 10 + 7*round {
			if !c.out.Scan() {
				t.Fatal("the writer ended")
			}
			confirmed = append(confirmed, c.out.Text())
		}
		confirmed = append(confirmed, c.kill(t)...)
		s := open(t, dir)
		names, err := s.List(t.Context(), "", "")
		if err != nil || len(names) < len(confirmed) || len(names) > len(confirmed)+1 {
			t.Fatalf("got %d objects, %v, want the %d that were confirmed and at most one more", len(names), err, len(confirmed))
		}
		for i, name := range names {
			data, err := s.Get(t.Context(), name)
			if err != nil || !bytes.Equal(data, object(name)) {
				t.Errorf("%s: got %d bytes, %v, want the whole object", name, len(data), err)
			}
			if i < len(confirmed) && confirmed[i] != name {
				t.Errorf("got %s at place %d, want %s", name, i, confirmed[i])
			}
		}
	}
}
