package step

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// WindowKind is how rows are put into windows.
type WindowKind string

// The kinds of windows. Windows are half open: a row of a window's end belongs to the next one.
const (
	NoWindow WindowKind = ""         // one result for each key, which never ends
	Tumbling WindowKind = "tumbling" // one window after the other, each of the same size
	Hopping  WindowKind = "hopping"  // windows of the same size that begin at every step, so that they overlap
	Session  WindowKind = "session"  // from a key's first row until none came for as long as the gap
)

// Window describes windows on event time. Tumbling and hopping windows begin at multiples of their size or step since 1970, UTC,
// plus Offset.
type Window struct {
	Kind   WindowKind
	Size   time.Duration // Tumbling, Hopping
	Slide  time.Duration // Hopping: from the beginning of a window to that of the next
	Offset time.Duration // Tumbling, Hopping
	Gap    time.Duration // Session
}

// windowsPerRowMax bounds the windows that a row belongs to: each of them is a state to change.
const windowsPerRowMax = 100

// Check returns what is wrong with a window, or nil.
func (w *Window) Check() error {
	whole := func(name string, d time.Duration) error {
		if d < time.Millisecond || d%time.Millisecond != 0 || d.Milliseconds() > eventTimeMax {
			return fmt.Errorf("window.%s: a whole number of milliseconds, at least one, is expected, found %s", name, d)
		}
		return nil
	}
	unused := func(name string, d time.Duration) error {
		if d != 0 {
			return fmt.Errorf("window.%s: a %s window has none", name, w.Kind)
		}
		return nil
	}
	switch w.Kind {
	case NoWindow:
		if *w != (Window{}) {
			return errors.New("window.type is missing")
		}
		return nil
	case Session:
		return errors.Join(whole("gap", w.Gap), unused("size", w.Size), unused("slide", w.Slide), unused("offset", w.Offset))
	case Tumbling:
		return errors.Join(whole("size", w.Size), w.checkOffset(w.Size), unused("slide", w.Slide), unused("gap", w.Gap))
	case Hopping:
		err := errors.Join(whole("size", w.Size), whole("slide", w.Slide), w.checkOffset(w.Slide), unused("gap", w.Gap))
		switch {
		case err != nil:
			return err
		case w.Slide > w.Size:
			return fmt.Errorf("window.slide: %s is more than the size %s, so rows between two windows would be in none", w.Slide, w.Size)
		case (w.Size+w.Slide-1)/w.Slide > windowsPerRowMax:
			return fmt.Errorf("window.slide: each row would be in %d windows, %d are allowed; make slide at least %s",
				(w.Size+w.Slide-1)/w.Slide, windowsPerRowMax, (w.Size+windowsPerRowMax-1)/windowsPerRowMax)
		}
		return nil
	}
	return fmt.Errorf("window.type: %q is none of tumbling, hopping and session", w.Kind)
}

func (w *Window) checkOffset(step time.Duration) error {
	if w.Offset < 0 || w.Offset%time.Millisecond != 0 || w.Offset != 0 && w.Offset >= step {
		return fmt.Errorf("window.offset: %s is not in whole milliseconds from 0 to below %s", w.Offset, step)
	}
	return nil
}

// String describes the window in the type of the state that lies in it.
func (w *Window) String() string {
	switch w.Kind {
	case NoWindow:
		return "no window"
	case Session:
		return fmt.Sprintf("session windows with a gap of %s", w.Gap)
	case Tumbling:
		return fmt.Sprintf("tumbling windows of %s, offset %s", w.Size, w.Offset)
	case Hopping:
		return fmt.Sprintf("hopping windows of %s every %s, offset %s", w.Size, w.Slide, w.Offset)
	}
	return string(w.Kind)
}

// length returns the size in milliseconds of windows that have a fixed one.
func (w *Window) length() int64 { return w.Size.Milliseconds() }

// ends appends the ends of the windows that a time belongs to, in order. Sessions have no fixed windows.
func (w *Window) ends(dst []int64, at int64) []int64 {
	slide := w.Slide.Milliseconds()
	if w.Kind == Tumbling {
		slide = w.length()
	}
	into := (at - w.Offset.Milliseconds()) % slide // how far the last window that begins at or before `at` is back
	if into < 0 {
		into += slide
	}
	start := at - into // of the last window
	first := len(dst)
	for ; start+w.length() > at; start -= slide {
		dst = append(dst, start+w.length())
	}
	slices.Reverse(dst[first:])
	return dst
}
