// Package file is a sink that writes rows as lines of JSON into files of a folder. A file collects the rows of one task over
// several checkpoints and appears under its final name in one step, complete.
//
// What is prepared: the bytes of an in-progress file below the hidden folder .ingestd, forced to the disk; the manifest names
// their length and checksum. A committable names a file that its writer has closed for good.
//
// What is the decision's proof: an entry below _committed, made durable before the file is renamed onto its final name. Done is
// what has an entry and no in-progress file any more, whatever a reader did with the final file since. An in-progress file that
// is gone without an entry is lost, and said to be.
//
// Who can still act late: an older run. It can only do what was decided anyhow: rename the same file onto the same name, which
// works once. It can't alter a decided file, because nothing is appended to it after Prepare, and it can't alter what a newer run
// goes on with: that copies the recorded bytes into files of its own. A commit that begins after a newer lease has left its mark
// in the folder is refused.
//
// What can expire: nothing. The folder has an identity, and every manifest names it: a folder that is missing, empty or another
// one (a mount that is not there) stops the pipeline, and is never taken for a target in which everything was done.
package file

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/sink"
)

// Plugin is one configured sink. It may be used by several goroutines at the same time.
type Plugin struct {
	settings Settings
	format   format
	disk     disk
}

var _ sink.Plugin = (*Plugin)(nil)

// New checks the settings and returns the plugin. It does no I/O. Errors are fault.Misconfigured.
func New(settings Settings) (*Plugin, error) {
	settings = settings.withDefaults()
	if err := settings.check(); err != nil {
		return nil, fault.E("sink/file.New", fault.Misconfigured, err)
	}
	f, err := newFormat(settings.Encoder)
	if err != nil {
		return nil, fault.E("sink/file.New", fault.Misconfigured, err)
	}
	return &Plugin{settings: settings, format: f, disk: osDisk{root: settings.Path}}, nil
}

// Capabilities tells what the sink promises.
func (p *Plugin) Capabilities() sink.Capabilities {
	visible := fmt.Sprintf("when their file is rolled, at %s or after %s, and at the end of a run, and that checkpoint is committed",
		p.settings.Roll.Size, p.settings.Roll.Age)
	if p.settings.Roll.EveryCheckpoint {
		visible = "when their checkpoint is committed"
	}
	return sink.Capabilities{
		Form:        sink.ServerSide,
		Ledger:      "an entry below _committed, durable before the file gets its final name",
		Fence:       "a mark of the lease in the folder; decided files are closed, and a file is continued only as a copy",
		ExactlyOnce: true,
		DeadLetters: true,
		AnyColumns:  true,
		Visible:     visible,
		Tested:      "Linux: ext4, tmpfs",
		Limits:      []string{"a local file system, or one with its rename, link and fsync", "an in-progress file that somebody deletes is lost, and the pipeline stops"},
	}
}

// Inspect looks at the folder. It creates nothing: the folder may be missing before the first start.
func (p *Plugin) Inspect(_ context.Context, id sink.Identity) (sink.Inspection, error) {
	const op = "sink/file.Inspect"
	finding := func(level sink.Level, remedy, format string, args ...any) (sink.Inspection, error) {
		return sink.Inspection{Findings: []sink.Finding{{Level: level, Text: fmt.Sprintf(format, args...), Remedy: remedy}}}, nil
	}
	_, err := p.disk.List(".")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return finding(sink.Note, "", "the folder %s is not there; the first start makes it", p.settings.Path)
	case errors.Is(err, fs.ErrPermission):
		return finding(sink.Blocks, "chown it to the user that runs ingestd", "the folder %s can't be read: %s", p.settings.Path, reason(err))
	case err != nil:
		return sink.Inspection{}, fault.E(op, fault.Transient, err)
	}
	if w, ok := p.disk.(interface{ Writable() error }); ok && w.Writable() != nil {
		return finding(sink.Blocks, "chown it to the user that runs ingestd", "the folder %s can't be written: %s", p.settings.Path, reason(w.Writable()))
	}
	found, err := readIdentity(p.disk, newLayout(id))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return sink.Inspection{}, nil
	case err != nil:
		return finding(sink.Blocks, "", "the identity of the folder %s can't be read: %s", p.settings.Path, reason(err))
	}
	lease, err := newest(p.disk, newLayout(id))
	if err != nil {
		return finding(sink.Blocks, "", "the fence of the folder %s can't be read: %s", p.settings.Path, reason(err))
	}
	return sink.Inspection{Owner: &sink.Owner{StoreID: found.StoreID, Lease: lease}}, nil
}

// Open returns the sink of one run. It touches nothing yet: Restore knows whether the folder must be there.
func (p *Plugin) Open(_ context.Context, env sink.Env) (sink.Sink, error) {
	if env.Lease == 0 || env.Tasks < 1 {
		return nil, fault.E("sink/file.Open", fault.Misconfigured, errors.New("a lease and at least one task are needed"))
	}
	return newSink(p, env, rand.Text()), nil
}

// reason is an error's text without the name of the operation.
func reason(err error) string {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err.Error()
	}
	return err.Error()
}

// kindOf classifies an error of the disk in a call that the run repeats.
func kindOf(err error) fault.Kind {
	if known, ok := errors.AsType[*fault.Error](err); ok {
		return known.Kind // said where it was found
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fault.Misconfigured // no repetition helps
	}
	return fault.Transient // a full disk or a failing one: a person or time may mend it, and nothing was decided
}
