package config

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"
)

// digestVersion begins what is hashed; it changes with the form of it.
const digestVersion = "ingestd pipeline config 1\n"

// PipelineDigest returns a hash of what the file says about one pipeline, as "sha256:" and hex digits, or "" if there is no
// such pipeline. It stays the same when keys change their order, comments or spelling of the value ("60s" and "1m") change,
// or a secret changes; it changes with every other value. References such as ${env:NAME} count as they are written. It is
// complete after [File.Pipelines]: values that no spec has described count by their key only.
func (f *File) PipelineDigest(name string) string {
	n := f.root.get("pipeline").get(name)
	if n == nil {
		return ""
	}
	sum := sha256.New()
	hashText(sum, digestVersion)
	hashNode(sum, n)
	return "sha256:" + hex.EncodeToString(sum.Sum(nil))
}

// hashNode writes a value so that no two different ones give the same bytes.
func hashNode(sum hash.Hash, n *node) {
	switch n.form {
	case formTable:
		fields := slices.Clone(n.fields)
		slices.SortFunc(fields, func(a, b field) int { return cmp.Compare(a.name, b.name) })
		hashText(sum, fmt.Sprintf("table %d\n", len(fields)))
		for _, f := range fields {
			hashText(sum, quote(f.name)+"\n")
			hashNode(sum, f.value)
		}
	case formArray:
		hashText(sum, fmt.Sprintf("array %d\n", len(n.items)))
		for _, item := range n.items {
			hashNode(sum, item)
		}
	case formString, formInteger, formFloat, formBool, formTime, formLocalTime:
		if n.plain {
			hashText(sum, n.canonical+"\n")
			return
		}
		hashText(sum, "hidden\n")
	}
}

func hashText(sum hash.Hash, text string) {
	sum.Write([]byte(text)) // a hash never returns an error
}
