package avro

// measure sets, for all nodes that are reached from one, the fewest bytes that a value takes. It bounds what a block of items may
// claim. Within a cycle the bound is low, never high.
func measure(n *node) int {
	if n.measured {
		return n.least
	}
	n.measured = true // a value that holds itself counts 0 there
	least := 0
	switch n.wire {
	case wireNull:
	case wireBool, wireInt, wireLong, wireBytes, wireString, wireEnum:
		least = 1
	case wireArray, wireMap:
		measure(n.item)
		least = 1
	case wireFloat:
		least = 4
	case wireDouble:
		least = 8
	case wireFixed:
		least = n.size
	case wireUnion:
		least = 1
		for i, m := range n.members {
			if size := 1 + measure(m); i == 0 || size < least {
				least = size
			}
		}
	case wireRecord:
		for i := range n.fields {
			least += measure(n.fields[i].node)
		}
		for i := range n.absent {
			measure(n.absent[i].node)
		}
	}
	n.least = least
	return least
}

// itemLeast is the fewest bytes that an item of an array or map takes.
func (n *node) itemLeast() int {
	if n.wire == wireMap {
		return n.item.least + 1
	}
	return n.item.least
}
