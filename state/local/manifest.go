package local

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/ingestd/ingestd/fault"
)

// Hash is a SHA-256: of a stored object, or the chain of deltas up to a sequence number. In JSON it is hexadecimal.
type Hash [sha256.Size]byte

// MarshalText returns the hash in hexadecimal.
func (h Hash) MarshalText() ([]byte, error) {
	return hex.AppendEncode(nil, h[:]), nil
}

// UnmarshalText reads what MarshalText wrote.
func (h *Hash) UnmarshalText(text []byte) error {
	if len(text) != 2*len(h) {
		return fmt.Errorf("a hash has %d hexadecimal digits, this has %d", 2*len(h), len(text))
	}
	_, err := hex.Decode(h[:], text)
	return err
}

// State is what a manifest says of a pipeline's keyed state: where it stands, and the objects from which it can be made.
//
// Deltas are numbered densely from 1. The chain hash of a number commits to all deltas up to it; that of number 0, the empty
// state, is zero.
type State struct {
	Seq    uint64 `json:"seq"`
	Chain  Hash   `json:"chain"`
	Bases  []Base `json:"bases,omitempty"`  // newest first, at most two
	Deltas []Ref  `json:"deltas,omitempty"` // in order, without a gap, up to Seq
}

// Base is a copy of the whole state, made slice by slice while deltas went on being applied: its oldest part shows Seq, its
// newest Horizon. Because deltas are absolute, the base and all deltas from Seq+1 up to some N >= Horizon are the state at N.
// Only a manifest that stands at Horizon or above may name it.
type Base struct {
	Seq          uint64    `json:"seq"`
	Chain        Hash      `json:"chain"`
	Horizon      uint64    `json:"horizon"`
	HorizonChain Hash      `json:"horizon_chain"`
	Made         time.Time `json:"made"`
	Slices       []Slice   `json:"slices"` // in the order of keys; together they hold every key there can be
}

// Slice is the part of a base from the key From up to but not including To. It shows those keys as of Seq.
type Slice struct {
	From     []byte `json:"from"`
	To       []byte `json:"to"`
	Seq      uint64 `json:"seq"`
	Object   string `json:"object,omitempty"` // "" when there is no key in the range
	Bytes    int64  `json:"bytes,omitempty"`
	Checksum Hash   `json:"checksum,omitzero"`
}

// Ref names the object that holds the delta with the number Seq. Chain is state.NextChain of the one before and the object's
// bytes; of no bytes for an empty delta.
type Ref struct {
	Seq      uint64 `json:"seq"`
	Chain    Hash   `json:"chain"`
	Object   string `json:"object,omitempty"` // "" for an empty delta
	Bytes    int64  `json:"bytes,omitempty"`
	Checksum Hash   `json:"checksum,omitzero"`
}

// Bytes returns the size of the base's objects.
func (b *Base) Bytes() int64 {
	var sum int64
	for i := range b.Slices {
		sum += b.Slices[i].Bytes
	}
	return sum
}

// id tells the base from every other one.
func (b *Base) id() Hash {
	var buf []byte
	for i := range b.Slices {
		c := &b.Slices[i]
		buf = binary.BigEndian.AppendUint64(buf, c.Seq)
		for _, part := range [...][]byte{c.From, c.To, []byte(c.Object), c.Checksum[:]} {
			buf = append(binary.BigEndian.AppendUint32(buf, uint32(len(part))), part...)
		}
	}
	return sha256.Sum256(buf)
}

// WithDelta returns the state one delta further. The receiver stays as it was.
func (s State) WithDelta(ref Ref) State {
	s.Deltas = append(slices.Clip(s.Deltas), ref)
	s.Seq, s.Chain = ref.Seq, ref.Chain
	return s
}

// WithBase returns the state with one base more, without the bases and deltas that are no longer needed: two bases are kept, and
// all deltas that the older one needs. It fails with fault.Unknown unless the state stands at the base's horizon or above, on the
// same chain. The receiver stays as it was.
func (s State) WithBase(base Base) (State, error) {
	chain, known := s.ChainAt(base.Horizon)
	if !known || chain != base.HorizonChain {
		return s, fault.E("state/local.WithBase", fault.Unknown,
			fmt.Errorf("the base reaches delta %d of another history than the state, which stands at %d", base.Horizon, s.Seq))
	}
	s.Bases = append([]Base{base}, s.Bases...)
	if len(s.Bases) > 2 {
		s.Bases = s.Bases[:2:2]
	}
	if len(s.Bases) == 2 {
		keep := 0
		for keep < len(s.Deltas) && s.Deltas[keep].Seq <= s.Bases[1].Seq {
			keep++
		}
		s.Deltas = append([]Ref(nil), s.Deltas[keep:]...)
	}
	return s, nil
}

// Bytes returns the size of all objects that the state needs; those that two bases share count once in each.
func (s State) Bytes() int64 {
	var sum int64
	for i := range s.Bases {
		sum += s.Bases[i].Bytes()
	}
	for i := range s.Deltas {
		sum += s.Deltas[i].Bytes
	}
	return sum
}

// Objects calls f with the name of each object that the state needs; a name may come more than once.
func (s State) Objects(f func(name string)) {
	for i := range s.Bases {
		for j := range s.Bases[i].Slices {
			if name := s.Bases[i].Slices[j].Object; name != "" {
				f(name)
			}
		}
	}
	for i := range s.Deltas {
		if name := s.Deltas[i].Object; name != "" {
			f(name)
		}
	}
}

// ChainAt returns the chain hash of a sequence number, as far as the state still tells it.
func (s State) ChainAt(seq uint64) (chain Hash, known bool) {
	if seq == 0 {
		return Hash{}, true
	}
	if seq == s.Seq {
		return s.Chain, true
	}
	if n := len(s.Deltas); n > 0 && seq >= s.Deltas[0].Seq && seq-s.Deltas[0].Seq < uint64(n) {
		return s.Deltas[seq-s.Deltas[0].Seq].Chain, true
	}
	for i := range s.Bases {
		switch seq {
		case s.Bases[i].Seq:
			return s.Bases[i].Chain, true
		case s.Bases[i].Horizon:
			return s.Bases[i].HorizonChain, true
		}
	}
	return Hash{}, false
}

// after returns the deltas above seq; known is false if one of them is missing.
func (s State) after(seq uint64) (deltas []Ref, known bool) {
	if seq == s.Seq {
		return nil, true
	}
	if seq > s.Seq || len(s.Deltas) == 0 || s.Deltas[0].Seq > seq+1 {
		return nil, false
	}
	return s.Deltas[seq+1-s.Deltas[0].Seq:], true
}

// Check returns nil if the state is whole: deltas without a gap up to Seq, bases that cover every key and lie below, and
// something to begin with. Errors are fault.Corrupt.
func (s State) Check() error {
	if err := s.check(); err != nil {
		return fault.E("state/local.Check", fault.Corrupt, err)
	}
	return nil
}

func (s State) check() error {
	for i := range s.Deltas {
		if want := s.Deltas[0].Seq + uint64(i); s.Deltas[i].Seq != want {
			return fmt.Errorf("delta %d stands in the place of delta %d", s.Deltas[i].Seq, want)
		}
	}
	if n := len(s.Deltas); n > 0 && (s.Deltas[0].Seq == 0 || s.Deltas[n-1].Seq != s.Seq || s.Deltas[n-1].Chain != s.Chain) {
		return fmt.Errorf("the last delta is %d, the state stands at %d", s.Deltas[n-1].Seq, s.Seq)
	}
	for i := range s.Bases {
		if err := s.checkBase(&s.Bases[i]); err != nil {
			return fmt.Errorf("base %d: %w", s.Bases[i].Seq, err)
		}
	}
	if len(s.Bases) == 0 {
		if _, known := s.after(0); !known {
			return fmt.Errorf("no base, and not all deltas from 1 to %d", s.Seq)
		}
	}
	return nil
}

func (s State) checkBase(b *Base) error {
	if b.Seq > b.Horizon || b.Horizon > s.Seq {
		return fmt.Errorf("it shows %d to %d, the state stands at %d", b.Seq, b.Horizon, s.Seq)
	}
	if _, known := s.after(b.Seq); !known {
		return fmt.Errorf("deltas from %d on are missing", b.Seq+1)
	}
	if chain, known := s.ChainAt(b.Horizon); !known || chain != b.HorizonChain {
		return fmt.Errorf("its horizon %d has another history", b.Horizon)
	}
	if chain, known := s.ChainAt(b.Seq); known && chain != b.Chain {
		return fmt.Errorf("%d has another history", b.Seq)
	}
	from := string(keyFirst())
	for i := range b.Slices {
		c := &b.Slices[i]
		if string(c.From) != from || string(c.To) <= from || c.Seq < b.Seq || c.Seq > b.Horizon {
			return fmt.Errorf("slice %d holds keys from %x to %x as of %d", i, c.From, c.To, c.Seq)
		}
		from = string(c.To)
	}
	if from != string(keyEnd()) {
		return fmt.Errorf("the last slice ends at %x", from)
	}
	return nil
}

// Limits say when a base is due. A zero field means its default.
type Limits struct {
	DeltaBytes int64         // bytes of deltas since the newest base; 64 MiB. The bound is not below half of the base
	Deltas     int           // deltas since the newest base; 512
	Age        time.Duration // of the newest base, while deltas came since; an hour
}

// Due tells whether a base should be made now. What a restore has to replay stays below the limits, and the bytes written to the
// store below three times those of the deltas, because a base waits for half of its size in deltas.
func Due(s State, now time.Time, limits Limits) bool {
	if limits.DeltaBytes == 0 {
		limits.DeltaBytes = 64 << 20
	}
	if limits.Deltas == 0 {
		limits.Deltas = 512
	}
	if limits.Age == 0 {
		limits.Age = time.Hour
	}
	var since uint64
	if len(s.Bases) > 0 {
		since = s.Bases[0].Seq
		limits.DeltaBytes = max(limits.DeltaBytes, s.Bases[0].Bytes()/2)
	}
	var bytes int64
	deltas := 0
	for i := len(s.Deltas) - 1; i >= 0 && s.Deltas[i].Seq > since; i-- {
		bytes += s.Deltas[i].Bytes
		deltas++
	}
	old := len(s.Bases) > 0 && deltas > 0 && now.Sub(s.Bases[0].Made) > limits.Age
	return bytes > limits.DeltaBytes || deltas > limits.Deltas || old
}
