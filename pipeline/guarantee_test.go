package pipeline

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/source"
)

func found(level sink.Level) []sink.Inspection {
	return []sink.Inspection{{Findings: []sink.Finding{{Level: level, Text: "something is so", Remedy: "ALTER TABLE"}}}, {}}
}

func TestDerive_tellsWhatHoldsAndWhy(t *testing.T) {
	once, forgetful := sink.Capabilities{ExactlyOnce: true, Ledger: "a row", DeadLetters: true}, sink.Capabilities{DeadLetters: true}
	const (
		holds      = "exactly-once: each record has its effect in each sink once, whatever is killed"
		exceptions = "exactly-once, with one exception named below"
		broken     = "exactly-once can't hold"
		atLeast    = "at-least-once: no record is lost; after a crash some may be doubled"
	)
	for _, c := range []struct {
		name          string
		delivery      config.Delivery
		main, letters sink.Capabilities
		found         []sink.Inspection
		holds         bool
		summary       string
		reason        string
	}{
		{"both sinks can", config.ExactlyOnce, once, once, nil, true, holds, "sink: ledger: a row"},
		{"the main sink can't", config.ExactlyOnce, forgetful, once, nil, false, broken, "sink: can't tell whether a commit took effect, so a retry may double rows"},
		{"the dead-letter sink can't", config.ExactlyOnce, once, forgetful, nil, false, broken, "dead_letter: can't tell whether a commit took effect, so a retry may double rows"},
		{"less is asked for", config.AtLeastOnce, forgetful, forgetful, nil, true, atLeast, ""},
		{"a note", config.ExactlyOnce, once, once, found(sink.Note), true, holds, ""},
		{"an exception", config.ExactlyOnce, once, once, found(sink.Weakens), true, exceptions, ""},
		{"a table that forbids it", config.ExactlyOnce, once, once, found(sink.Forbids), false, broken, ""},
		{"that table with at-least-once", config.AtLeastOnce, once, once, found(sink.Forbids), true, atLeast, ""},
		{"a table that can't be used", config.AtLeastOnce, once, once, found(sink.Blocks), false, "at-least-once can't hold", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			main, letters := newTable(), newTable()
			main.caps, letters.caps = c.main, c.letters
			g := Derive(&Definition{Delivery: c.delivery, Sink: main, DeadLetter: letters}, c.found)
			if g.Holds != c.holds || g.Summary != c.summary {
				t.Errorf("got %t, %q, want %t, %q", g.Holds, g.Summary, c.holds, c.summary)
			}
			if c.reason != "" && !slices.Contains(g.Reasons, c.reason) {
				t.Errorf("the reasons %q lack %q", g.Reasons, c.reason)
			}
			if err := g.err(); (err == nil) != c.holds || err != nil && !errors.Is(err, ErrGuarantee) {
				t.Errorf("got error %v", err)
			}
			if err := g.err(); err != nil && len(c.found) > 0 && !strings.Contains(err.Error(), "sink: something is so\n  next: ALTER TABLE") {
				t.Errorf("the error %q does not name the finding and what mends it", err)
			}
		})
	}
}

func TestDerive_withoutDeadLettersSaysWhatARefusalDoes(t *testing.T) {
	g := Derive(&Definition{Delivery: config.ExactlyOnce, Sink: newTable()}, nil)
	if want := "no dead_letter section: a record that is refused stops the pipeline"; !slices.Contains(g.Reasons, want) {
		t.Errorf("the reasons %q lack %q", g.Reasons, want)
	}
}

// checked is a source that can be asked.
type checked struct {
	*topic
	findings []source.Finding
}

func (c checked) Check(context.Context) []source.Finding { return c.findings }

// The first thing that keeps a pipeline from starting is its error, of a kind that says who must act; everything else is found
// all the same.
func TestLook_findsEverythingAtOnce(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		w.def.Source = checked{w.source, []source.Finding{
			{Level: source.Blocks, Text: "the topic is not there", Remedy: "make it"}, {Level: source.Note, Text: "it is small"},
		}}
		w.rows.inspect = func() (sink.Inspection, error) {
			return sink.Inspection{}, fault.E("table.Inspect", fault.Transient, errors.New("connection refused"))
		}
		look := Look(t.Context(), w.def, w.env().Log)
		if look.Err == nil || fault.KindOf(look.Err) != fault.Misconfigured || !strings.Contains(look.Err.Error(), "the topic is not there") {
			t.Errorf("got error %v, want that of the source", look.Err)
		}
		if len(look.Findings) != 2 || look.Findings[0] != (Found{"source", "blocks", "the topic is not there", "make it"}) {
			t.Errorf("got findings %+v", look.Findings)
		}
		if look.Guarantee.Summary == "" || len(look.Guarantee.Reasons) == 0 {
			t.Errorf("nothing is said of the guarantee: %+v", look.Guarantee)
		}
		w.def.Source = w.source
		look = Look(t.Context(), w.def, w.env().Log)
		if look.Err == nil || fault.KindOf(look.Err) != fault.Transient || !strings.Contains(look.Err.Error(), `sink "sink"`) {
			t.Errorf("got error %v, want that of the sink", look.Err)
		}
		w.rows.inspect = nil
		look = Look(t.Context(), w.def, w.env().Log)
		if look.Err != nil || !slices.Equal(look.Columns, []string{"text string"}) || len(w.store.Objects()) != 0 {
			t.Errorf("got %+v and %d stored objects, want one column and nothing stored", look, len(w.store.Objects()))
		}
	})
}

func TestBind_checksWithoutALook(t *testing.T) {
	w := newWorld(t)
	columns, err := Bind(w.def)
	if err != nil || !slices.Equal(columns, []string{"text string"}) {
		t.Errorf("got %q, %v", columns, err)
	}
	w.def.Codec = words{fault.E("codec", fault.Misconfigured, errors.New("no columns"))}
	if _, err := Bind(w.def); err == nil {
		t.Error("a codec that does not fit is not found")
	}
	w.rows.caps.AnyColumns = false // then only the target knows
	if columns, err := Bind(w.def); err != nil || columns != nil {
		t.Errorf("got %q, %v, want nothing", columns, err)
	}
}
