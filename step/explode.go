package step

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"unicode"
	"unicode/utf8"

	"github.com/ingestd/ingestd/internal/invariant"
	"github.com/ingestd/ingestd/record"
)

// Split says how a text becomes parts.
type Split string

// The ways to split a text.
const (
	SplitNone      Split = ""           // the column is an array
	SplitWords     Split = "words"      // letters, digits and marks, and an apostrophe between two of them
	SplitSpace     Split = "whitespace" // what stands between white space
	SplitLines     Split = "lines"      // lines; an ending \n or \r\n is no part of one
	SplitSeparator Split = "separator"  // what stands between separators; parts may be empty, an empty text has none
)

// explodeLimit is how many parts a record may have by default.
const explodeLimit = 100_000

// Explode makes a row of each element of an array, or of each part of a text. The other columns and the provenance are repeated. A row
// without any element is counted as filtered: passed rows are those that made at least one, and what a batch has more is made.
type Explode struct {
	ID     string
	Column string
	// Into is the column of the elements; "": Column, in its place. Otherwise Column stays and Into comes last.
	Into      string
	Split     Split
	Separator string // for SplitSeparator
	Limit     int    // elements of a row, above which it is refused; 0: 100,000
}

var (
	_ Step   = (*Explode)(nil)
	_ Wanter = (*Explode)(nil)
)

// Name returns the id.
func (e *Explode) Name() string { return e.ID }

// Want takes out the column that the step makes; it is the decoder's config that has what it is made from.
func (e *Explode) Want(out *record.Schema) *record.Schema {
	made := e.Into
	if made == "" {
		made = e.Column
	}
	return without(out, func(name string) bool { return name == made })
}

// Bind checks the column.
func (e *Explode) Bind(in *record.Schema) (*record.Schema, Apply, error) {
	at, elem, err := e.check(in)
	if err != nil {
		return nil, nil, misconfigured(e.ID, err)
	}
	out := &record.Schema{Fields: slices.Clone(in.Fields)}
	into := at
	if e.Into == "" || e.Into == e.Column {
		out.Fields[at] = record.Field{Name: e.Column, Type: elem, Optional: elem.Nullable}
	} else {
		into = len(out.Fields)
		out.Fields = append(out.Fields, record.Field{Name: e.Into, Type: elem, Optional: elem.Nullable})
	}
	if err := out.Check(); err != nil {
		return nil, nil, misconfigured(e.ID, err)
	}
	limit := e.Limit
	if limit == 0 {
		limit = explodeLimit
	}
	x := &explosion{at: at, into: into, parts: e.parts(), limit: limit, r: refuser{step: e.ID}, made: newMade(out), fields: len(in.Fields)}
	return out, x.apply, nil
}

func (e *Explode) check(in *record.Schema) (at int, elem record.Type, err error) {
	at = in.Index(e.Column)
	if at < 0 {
		return at, elem, unknownColumn(e.Column, in)
	}
	var errs []error
	t := &in.Fields[at].Type
	switch e.Split {
	case SplitNone:
		if t.Kind != record.Array {
			errs = append(errs, fmt.Errorf("column %q: an array is expected, it is %s (split takes a text apart)", e.Column, t))
			break
		}
		elem = *t.Elem
	case SplitWords, SplitSpace, SplitLines, SplitSeparator:
		if t.Kind != record.String {
			errs = append(errs, fmt.Errorf("split: column %q: a string is expected, it is %s", e.Column, t))
		}
		elem = record.Type{Kind: record.String}
	default:
		errs = append(errs, fmt.Errorf("split: %q is none of words, whitespace, lines and separator", e.Split))
	}
	if (e.Split == SplitSeparator) != (e.Separator != "") {
		errs = append(errs, errors.New(`separator: it goes with split = "separator", and is needed there`))
	}
	if e.Limit < 0 {
		errs = append(errs, fmt.Errorf("limit: %d is negative", e.Limit))
	}
	return at, elem, errors.Join(errs...)
}

// parts returns how a text is taken apart, or nil for an array.
func (e *Explode) parts() func(text []byte, f func(part []byte) bool) {
	switch e.Split {
	case SplitNone:
		return nil
	case SplitWords:
		return words
	case SplitSpace:
		return func(text []byte, f func(part []byte) bool) { bytes.FieldsSeq(text)(f) }
	case SplitLines:
		return lines
	case SplitSeparator:
	}
	separator := []byte(e.Separator)
	return func(text []byte, f func(part []byte) bool) { bytes.SplitSeq(text, separator)(f) }
}

func lines(text []byte, f func(part []byte) bool) {
	for line := range bytes.Lines(text) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		if !f(bytes.TrimSuffix(line, []byte("\r"))) {
			return
		}
	}
}

// words calls f with each word of a text until it returns false.
func words(text []byte, f func(part []byte) bool) {
	from := -1 // of the word, -1 between words
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		switch {
		case inWord(r):
			if from < 0 {
				from = i
			}
		case from >= 0 && (r == '\'' || r == '’') && followed(text[i+size:]):
		case from >= 0:
			if !f(text[from:i]) {
				return
			}
			from = -1
		}
		i += size
	}
	if from >= 0 {
		f(text[from:])
	}
}

func inWord(r rune) bool {
	return r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r))
}

// followed tells whether a text begins with a part of a word.
func followed(text []byte) bool {
	r, _ := utf8.DecodeRune(text)
	return inWord(r)
}

// explosion is a bound Explode.
type explosion struct {
	at, into int
	fields   int // columns of the batch
	parts    func(text []byte, f func(part []byte) bool)
	limit    int
	r        refuser
	made     *made
}

func (x *explosion) apply(b *record.Batch, res *Result) {
	x.r.begin(b)
	passed := 0
	for row := range b.Rows {
		switch n := x.explode(b, row); {
		case n > x.limit:
			x.r.refuse(row, b.Schema.Fields[x.at].Name, fmt.Sprintf("it has more than %d elements, the limit of the step", x.limit))
		case n == 0:
			x.r.drop(row)
		default:
			passed++
		}
	}
	for _, refusal := range x.r.reasons {
		res.Refused = append(res.Refused, b.Letter(refusal.Row, "step:"+x.r.step, refusal))
	}
	filtered := x.r.leaving - len(x.r.reasons)
	res.Filtered += int64(filtered)
	invariant.Check("I12", b.Rows == passed+filtered+len(x.r.reasons) && x.made.rows.Rows >= passed,
		"step", x.r.step, "in", b.Rows, "passed", passed, "filtered", filtered, "refused", len(x.r.reasons))
	x.made.replace(b, nil)
}

// explode appends the rows of one and returns their number, or one above the limit, and then appends none.
func (x *explosion) explode(b *record.Batch, row int) int {
	c := &b.Cols[x.at]
	if c.IsNull(row) || x.parts != nil && len(c.BytesAt(row)) == 0 {
		return 0
	}
	out := x.made.rows
	into := &out.Cols[x.into]
	before, n := out.Rows, 0
	if x.parts == nil {
		from, to := c.Range(row)
		if int(to-from) > x.limit {
			return x.limit + 1
		}
		for i := from; i < to; i++ {
			into.AppendFrom(c.Elem, int(i))
			n++
		}
	} else {
		x.parts(c.BytesAt(row), func(part []byte) bool {
			if n++; n <= x.limit {
				into.AppendBytes(part)
			}
			return n <= x.limit
		})
	}
	if n > x.limit {
		into.Truncate(before)
		return n
	}
	for i := range x.fields {
		if i == x.into {
			continue
		}
		for range n {
			out.Cols[i].AppendFrom(&b.Cols[i], row)
		}
	}
	for range n {
		x.made.appendMeta(b, row)
	}
	return n
}
