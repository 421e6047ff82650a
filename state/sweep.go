package state

// sweep goes round the keys of a state with a TTL.
type sweep struct {
	cell  cell
	stage int    // which own group, without and with namespaces in turn
	from  []byte // where it goes on; empty: at the stage's beginning
}

func (t *Task) sweepLater(c cell) {
	if c.own.ttl.For > 0 {
		t.sweeps = append(t.sweeps, &sweep{cell: c})
	}
}

// Sweep deletes what has expired by its TTL and is never asked for again. Each call looks at up to limit entries of each state and
// goes on where the last one stopped, round and round; it returns the number of entries that it deleted. Reads never show what
// has expired, swept or not.
func (t *Task) Sweep(limit int) (expired int, err error) {
	if len(t.o.Own) == 0 {
		return 0, nil
	}
	for _, s := range t.sweeps {
		n, err := s.some(limit)
		expired += n
		if err != nil {
			return expired, err
		}
	}
	return expired, nil
}

func (s *sweep) some(limit int) (expired int, err error) {
	t := s.cell.t
	p := t.borrow()
	defer t.giveBack(p)
	c := s.cell
	group := t.o.Own[s.stage/2]
	if s.stage%2 == 1 {
		c.kind |= scoped
	}
	r := below(appendPrefix(nil, group, c.own.slot, c.kind))
	if len(s.from) > 0 {
		r.From = s.from
	}
	if err := t.fill(p, r, limit); err != nil {
		return 0, err
	}
	for i := range p.len() {
		over, err := c.sweep(p.key(i), p.value(i))
		if err != nil {
			return expired, err
		}
		expired += over
	}
	if p.full(limit) {
		s.from = append(append(s.from[:0], p.key(p.len()-1)...), 0)
		return expired, nil
	}
	s.from, s.stage = s.from[:0], (s.stage+1)%(2*len(t.o.Own))
	return expired, nil
}

// sweep deletes one entry if it has expired, and returns how many that makes. The current key changes.
func (c cell) sweep(key, stored []byte) (int, error) {
	p, err := SplitKey(key)
	if err != nil {
		return 0, c.corrupt(err)
	}
	list := c.kind&^scoped == kindList
	if list && len(p.Sub) > 0 {
		return 0, nil // an element lives as long as its head
	}
	_, ok, err := c.open(stored)
	if err != nil || ok {
		return 0, err
	}
	if !list {
		c.t.remove(key)
		return 1, nil
	}
	c.t.For(p.User, p.Group)
	c.space = p.Space
	_, elements, err := c.length()
	if err != nil {
		return 0, err
	}
	c.clearList(elements)
	return int(elements), nil
}
