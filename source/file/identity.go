package file

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/source"
)

// identityBytes is how much of the beginning and of the end of what is read is part of a file's identity.
const identityBytes = 64 << 10

// identity is what must not change: the number of bytes that are read, and hashes of the first and the last of them.
type identity struct {
	size int64
	head string
	tail string
}

// String returns the identity as it stands in positions: "1:SIZE:HEAD:TAIL", where 1 is the version of the form.
func (id identity) String() string { return fmt.Sprintf("1:%d:%s:%s", id.size, id.head, id.tail) }

func parseIdentity(text string) (identity, error) {
	var id identity
	parts := strings.Split(text, ":")
	if len(parts) != 4 || parts[0] != "1" {
		return id, fmt.Errorf("%q is not a file's identity", text)
	}
	if _, err := fmt.Sscanf(parts[1], "%d", &id.size); err != nil || id.size < 0 {
		return id, fmt.Errorf("%q is not a file's identity", text)
	}
	id.head, id.tail = parts[2], parts[3]
	return id, nil
}

// identify reads the identity of the first size bytes.
func identify(f io.ReaderAt, size int64) (identity, error) {
	n := min(size, identityBytes)
	head, err := digest(f, 0, n)
	if err != nil {
		return identity{}, err
	}
	tail, err := digest(f, size-n, n)
	return identity{size, head, tail}, err
}

func digest(f io.ReaderAt, at, n int64) (string, error) {
	h := sha256.New()
	if read, err := io.Copy(h, io.NewSectionReader(f, at, n)); err != nil {
		return "", err
	} else if read < n {
		return "", io.ErrUnexpectedEOF
	}
	const kept = 16
	return hex.EncodeToString(h.Sum(nil)[:kept]), nil
}

// openSplit opens a split's file and refuses it when it is not what it was.
func openSplit(s source.Split) (*os.File, error) {
	const op fault.Op = "source/file.Open"
	want, err := parseIdentity(s.Identity)
	if err != nil {
		return nil, fault.E(op, fault.Corrupt, fmt.Errorf("split %s: %w", s.Split, err))
	}
	f, err := os.Open(s.Split)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, lost(op, fmt.Errorf("split %s: the file is gone; %d bytes from offset %d on were not read", s.Split, s.Until-s.Offset, s.Offset))
	}
	if err != nil {
		return nil, fault.E(op, kindOf(err), fmt.Errorf("split %s: %w", s.Split, err))
	}
	if err := compare(f, s, want); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// compare checks that the file is what the split says.
func compare(f *os.File, s source.Split, want identity) error {
	const op fault.Op = "source/file.Open"
	info, err := f.Stat()
	if err != nil {
		return fault.E(op, fault.Transient, err)
	}
	if info.Size() < want.size {
		return lost(op, fmt.Errorf("split %s: the file shrank: it has %d bytes, and had %d", s.Split, info.Size(), want.size))
	}
	got, err := identify(f, want.size)
	if err != nil {
		return fault.E(op, fault.Transient, fmt.Errorf("split %s: %w", s.Split, err))
	}
	switch {
	case got.head != want.head:
		return lost(op, fmt.Errorf("split %s: the file changed: its first bytes are others than at the first start", s.Split))
	case got.tail != want.tail:
		return lost(op, fmt.Errorf("split %s: the file changed: the bytes before offset %d are others than at the first start", s.Split, want.size))
	case int64(s.Offset) > want.size || int64(s.Until) > want.size:
		return fault.E(op, fault.Corrupt, fmt.Errorf("split %s: the position %d or the bound %d is beyond the %d bytes that the file had", s.Split, s.Offset, s.Until, want.size))
	}
	if s.Offset == 0 || s.Offset == s.Until {
		return nil
	}
	var before [1]byte
	if _, err := f.ReadAt(before[:], int64(s.Offset)-1); err != nil {
		return fault.E(op, fault.Transient, fmt.Errorf("split %s: %w", s.Split, err))
	}
	if before[0] != '\n' {
		return lost(op, fmt.Errorf("split %s: the file changed: no line begins at the position %d", s.Split, s.Offset))
	}
	return nil
}

func lost(op fault.Op, err error) error {
	return fault.WithRemedy(op, fault.Lost, err, "put the file back as it was; its lines are read by their places")
}
