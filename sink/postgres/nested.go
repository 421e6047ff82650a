package postgres

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/ingestd/ingestd/record"
)

// The families of addresses in the server's binary form.
const (
	family4 = 2
	family6 = 3
)

// inet takes addresses of either kind, and texts "address" or "address/bits".
func (l *cell) inet(s *shape, t *record.Type) bool {
	var read func(c *record.Column, row int) netip.Prefix
	switch t.Kind { //nolint:exhaustive // the other kinds are no address
	case record.IPv4:
		read = func(c *record.Column, row int) netip.Prefix {
			var raw [4]byte
			binary.BigEndian.PutUint32(raw[:], uint32(c.Uint(row)))
			return alone(netip.AddrFrom4(raw))
		}
	case record.IPv6:
		read = func(c *record.Column, row int) netip.Prefix { return alone(netip.AddrFrom16([16]byte(c.FixedAt(row)))) }
	case record.String:
		read = func(c *record.Column, row int) netip.Prefix {
			p, _ := parseInet(string(c.BytesAt(row)), s.network) //nolint:errcheck // it was checked
			return p
		}
		l.check = func(c *record.Column, row int) string {
			if _, err := parseInet(string(c.BytesAt(row)), s.network); err != nil {
				return fmt.Sprintf("%q is no %s: %v", c.BytesAt(row), s.name, err)
			}
			return ""
		}
	default:
		return false
	}
	l.put = func(dst []byte, c *record.Column, row int) []byte { return appendInet(dst, read(c, row), s.network) }
	return true
}

// alone is an address with all its bits.
func alone(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// appendInet writes family, bits, whether it is a network, length and address.
func appendInet(dst []byte, p netip.Prefix, network bool) []byte { //nolint:revive // the flag is the type: cidr or inet
	family, flag := byte(family4), byte(0)
	if p.Addr().BitLen() > 32 {
		family = family6
	}
	if network {
		flag = 1
	}
	raw := p.Addr().AsSlice()
	return append(append(dst, family, byte(p.Bits()), flag, byte(len(raw))), raw...)
}

func parseInet(text string, network bool) (netip.Prefix, error) { //nolint:revive // the flag is the type: cidr or inet
	if !strings.Contains(text, "/") {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("it must be address or address/bits")
		}
		return alone(a), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("it must be address or address/bits")
	}
	if network && p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("there are bits set behind the mask")
	}
	return p, nil
}

// dimensionsMax is the server's MAXDIM.
const dimensionsMax = 6

// array takes lists of what its elements take, nested as deep as the server's arrays go.
func (l *cell) array(s *shape, t *record.Type) (*cell, error) {
	depth, leaf := 0, t
	for leaf.Kind == record.Array {
		depth, leaf = depth+1, leaf.Elem
	}
	if depth == 0 || depth > dimensionsMax {
		return nil, fmt.Errorf("%s can't be written as %s", t, s.name)
	}
	elem, err := newCell(s.elem, leaf)
	if err != nil {
		return nil, err
	}
	a := &arrayCell{elem: elem, oid: s.elemOID, depth: depth}
	l.put, l.check = a.put, a.check
	return l, nil
}

// arrayCell writes lists of one depth.
type arrayCell struct {
	elem  *cell
	oid   uint32
	depth int
}

// measure finds the length of each dimension. ok is false when lists of one level differ in length, or one of them is null.
func (a *arrayCell) measure(c *record.Column, row int, lengths []int, level int) bool {
	from, to := c.Range(row)
	n := int(to - from)
	if lengths[level] >= 0 && lengths[level] != n {
		return false
	}
	lengths[level] = n
	if level == a.depth-1 {
		return true
	}
	for i := int(from); i < int(to); i++ {
		if c.Elem.IsNull(i) || !a.measure(c.Elem, i, lengths, level+1) {
			return false
		}
	}
	return true
}

// lengths of the dimensions; ok as in measure.
func (a *arrayCell) lengths(c *record.Column, row int) (lengths []int, ok bool) {
	lengths = make([]int, a.depth)
	for i := range lengths {
		lengths[i] = -1
	}
	return lengths, a.measure(c, row, lengths, 0)
}

func (a *arrayCell) check(c *record.Column, row int) string {
	if a.depth > 1 {
		if _, ok := a.lengths(c, row); !ok {
			return "the lists of an array must all have one length, and be there"
		}
	}
	if a.elem.check == nil {
		return ""
	}
	return a.checkElements(c, row, 0)
}

func (a *arrayCell) checkElements(c *record.Column, row, level int) string {
	from, to := c.Range(row)
	for i := int(from); i < int(to); i++ {
		var why string
		if level < a.depth-1 {
			why = a.checkElements(c.Elem, i, level+1)
		} else {
			why = a.elem.refuse(c.Elem, i)
		}
		if why != "" {
			return why
		}
	}
	return ""
}

// put writes dimensions, whether there are nulls, the element's type, each dimension's length and lower bound, the elements.
func (a *arrayCell) put(dst []byte, c *record.Column, row int) []byte {
	var single [1]int
	lengths := single[:]
	if a.depth > 1 {
		lengths, _ = a.lengths(c, row)
	} else {
		from, to := c.Range(row)
		single[0] = int(to - from)
	}
	for _, n := range lengths {
		if n <= 0 { // the server has one empty array, without dimensions
			lengths = nil
		}
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(lengths)))
	flags := len(dst)
	dst = binary.BigEndian.AppendUint32(dst, 0)
	dst = binary.BigEndian.AppendUint32(dst, a.oid)
	for _, n := range lengths {
		dst = binary.BigEndian.AppendUint32(dst, uint32(n))
		dst = binary.BigEndian.AppendUint32(dst, 1)
	}
	if lengths == nil {
		return dst
	}
	dst, nulls := a.putElements(dst, c, row, 0)
	if nulls {
		dst[flags+3] = 1
	}
	return dst
}

func (a *arrayCell) putElements(dst []byte, c *record.Column, row, level int) (out []byte, nulls bool) {
	from, to := c.Range(row)
	for i := int(from); i < int(to); i++ {
		if level < a.depth-1 {
			var inner bool
			dst, inner = a.putElements(dst, c.Elem, i, level+1)
			nulls = nulls || inner
			continue
		}
		nulls = nulls || c.Elem.IsNull(i)
		dst = a.elem.append(dst, c.Elem, i)
	}
	return dst, nulls
}
