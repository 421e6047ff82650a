package storetest_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/checkpoint/storetest"
	"github.com/ingestd/ingestd/fault"
)

// broken is a store with one method that breaks a rule.
type broken struct {
	checkpoint.Store
	create   func(ctx context.Context, name string, data []byte) error
	get      func(ctx context.Context, name string) ([]byte, error)
	getRange func(ctx context.Context, name string, offset, length int64) ([]byte, error)
	list     func(ctx context.Context, prefix, after string) ([]string, error)
	remove   func(ctx context.Context, name string) error
}

func (b broken) Create(ctx context.Context, name string, data []byte) error {
	if b.create != nil {
		return b.create(ctx, name, data)
	}
	return b.Store.Create(ctx, name, data)
}

func (b broken) Get(ctx context.Context, name string) ([]byte, error) {
	if b.get != nil {
		return b.get(ctx, name)
	}
	return b.Store.Get(ctx, name)
}

func (b broken) GetRange(ctx context.Context, name string, offset, length int64) ([]byte, error) {
	if b.getRange != nil {
		return b.getRange(ctx, name, offset, length)
	}
	return b.Store.GetRange(ctx, name, offset, length)
}

func (b broken) List(ctx context.Context, prefix, after string) ([]string, error) {
	if b.list != nil {
		return b.list(ctx, prefix, after)
	}
	return b.Store.List(ctx, prefix, after)
}

func (b broken) Delete(ctx context.Context, name string) error {
	if b.remove != nil {
		return b.remove(ctx, name)
	}
	return b.Store.Delete(ctx, name)
}

// change turns a good answer of List into a bad one.
func change(s checkpoint.Store, how func(names []string, prefix, after string) []string) broken {
	return broken{Store: s, list: func(ctx context.Context, prefix, after string) ([]string, error) {
		names, err := s.List(ctx, prefix, after)
		return how(names, prefix, after), err
	}}
}

// breaks maps the name of a break to the rule that must find it and to the store that has it.
func breaks(s checkpoint.Store) map[string]struct {
	rule  string
	store checkpoint.Store
} {
	type entry = struct {
		rule  string
		store checkpoint.Store
	}
	var mu sync.Mutex
	seen := map[string]bool{}
	return map[string]entry{
		"Create overwrites": {"create_refusesATakenName", broken{Store: s, create: func(ctx context.Context, name string, data []byte) error {
			return errors.Join(s.Delete(ctx, name), s.Create(ctx, name, data))
		}}},
		"Create is silent about a taken name": {"create_refusesATakenName", broken{Store: s, create: func(ctx context.Context, name string, data []byte) error {
			if err := s.Create(ctx, name, data); !errors.Is(err, checkpoint.ErrExists) {
				return err
			}
			return nil
		}}},
		"Create takes the same bytes twice": {"create_refusesATakenName", broken{Store: s, create: func(ctx context.Context, name string, data []byte) error {
			err := s.Create(ctx, name, data)
			if old, getErr := s.Get(ctx, name); getErr == nil && errors.Is(err, checkpoint.ErrExists) && bytes.Equal(old, data) {
				return nil
			}
			return err
		}}},
		"Create looks first and then writes": {"create_hasOneWinner", broken{Store: s, create: func(ctx context.Context, name string, data []byte) error {
			mu.Lock()
			taken := seen[name] && len(data)%2 == 0 // half of the writers look too early
			seen[name] = true
			mu.Unlock()
			if taken {
				return checkpoint.ErrExists
			}
			return errors.Join(s.Delete(ctx, name), s.Create(ctx, name, data))
		}}},
		"Create shows a part": {"create_hasOneWinner", broken{Store: s, get: func(ctx context.Context, name string) ([]byte, error) {
			data, err := s.Get(ctx, name)
			return data[:len(data)/2], err
		}}},
		"Create drops carriage returns": {"create_storesTheBytes", broken{Store: s, create: func(ctx context.Context, name string, data []byte) error {
			return s.Create(ctx, name, bytes.ReplaceAll(data, []byte{'\r'}, nil))
		}}},
		"Create ignores case": {"create_keepsNeighboursApart", broken{Store: s, create: func(ctx context.Context, name string, data []byte) error {
			return s.Create(ctx, strings.ToLower(name), data)
		}}},
		"Create has its effect and says Transient": {"create_doesNothingUnderAnEndedContext", broken{Store: s, create: func(ctx context.Context, name string, data []byte) error {
			if err := s.Create(context.WithoutCancel(ctx), name, data); err != nil || ctx.Err() == nil {
				return err
			}
			return fault.E("test", fault.Transient, ctx.Err())
		}}},
		"Get answers nothing for what is not there": {"get_tellsWhatIsNotThere", broken{Store: s, get: func(ctx context.Context, name string) ([]byte, error) {
			data, err := s.Get(ctx, name)
			if errors.Is(err, checkpoint.ErrNotExist) {
				return nil, nil
			}
			return data, err
		}}},
		"Get loses the identity of ErrNotExist": {"get_tellsWhatIsNotThere", broken{Store: s, get: func(ctx context.Context, name string) ([]byte, error) {
			data, err := s.Get(ctx, name)
			if err != nil {
				return nil, errors.New(err.Error())
			}
			return data, nil
		}}},
		"GetRange counts to an end": {"getRange_returnsTheRange", broken{Store: s, getRange: func(ctx context.Context, name string, offset, length int64) ([]byte, error) {
			return s.GetRange(ctx, name, offset, max(length-offset, 0))
		}}},
		"GetRange fails behind the end": {"getRange_returnsTheRange", broken{Store: s, getRange: func(ctx context.Context, name string, offset, length int64) ([]byte, error) {
			if data, err := s.Get(ctx, name); err == nil && offset > int64(len(data)) {
				return nil, errors.New("invalid range")
			}
			return s.GetRange(ctx, name, offset, length)
		}}},
		"GetRange takes a negative offset for 0": {"getRange_refusesWhatIsNoRange", broken{Store: s, getRange: func(ctx context.Context, name string, offset, length int64) ([]byte, error) {
			return s.GetRange(ctx, name, max(offset, 0), max(length, 0))
		}}},
		"List is stale": {"read_showsEveryCreate", change(s, func(names []string, _, _ string) []string {
			return slices.Delete(names, max(len(names)-1, 0), len(names))
		})},
		"List sorts by folders": {"list_isSortedByByte", change(s, func(names []string, _, _ string) []string {
			slices.SortFunc(names, func(a, b string) int { return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/")) })
			return names
		})},
		"List takes the prefix for a folder": {"list_beginsWithPrefix", change(s, func(names []string, prefix, _ string) []string {
			return slices.DeleteFunc(names, func(name string) bool {
				return prefix != "" && !strings.HasPrefix(name, strings.TrimSuffix(prefix, "/")+"/")
			})
		})},
		"List begins with after": {"list_beginsAfter", change(s, func(names []string, _, after string) []string {
			if after == "p/a" {
				return append([]string{after}, names...)
			}
			return names
		})},
		"List ends with its first page": {"list_isComplete", change(s, func(names []string, _, _ string) []string {
			return names[:min(len(names), 1000)]
		})},
		"List shows temporary files": {"list_showsNothingHalfDone", change(s, func(names []string, _, _ string) []string {
			return append(names, "tmp-1")
		})},
		"Delete fails for what is not there": {"delete_mayBeRepeated", broken{Store: s, remove: func(ctx context.Context, name string) error {
			if _, err := s.Get(ctx, name); err != nil {
				return err
			}
			return s.Delete(ctx, name)
		}}},
		"Delete does nothing": {"delete_removes", broken{Store: s, remove: func(context.Context, string) error { return nil }}},
		"Delete takes what lies below": {"delete_leavesWhatLiesBelow", broken{Store: s, remove: func(ctx context.Context, name string) error {
			names, err := s.List(ctx, name, "")
			for _, n := range names {
				err = errors.Join(err, s.Delete(ctx, n))
			}
			return err
		}}},
		"Delete keeps the name taken": {"delete_freesTheName", broken{Store: s, create: func(ctx context.Context, name string, data []byte) error {
			mu.Lock()
			defer mu.Unlock()
			if seen[name] {
				return checkpoint.ErrExists
			}
			seen[name] = true
			return s.Create(ctx, name, data)
		}}},
		"names are cleaned": {"names_areRefused", broken{Store: s, create: func(ctx context.Context, name string, data []byte) error {
			return s.Create(ctx, strings.TrimPrefix(path.Clean("/"+name), "/"), data)
		}}},
		"names must not begin with a dot": {"names_areAccepted", broken{Store: s, create: func(ctx context.Context, name string, data []byte) error {
			if strings.HasPrefix(path.Base(name), ".") {
				return errors.New("hidden")
			}
			return s.Create(ctx, name, data)
		}}},
	}
}

// breakVariable chooses the break of a child process.
const breakVariable = "INGESTD_STORETEST_BREAK"

// Goal: each rule of the suite is able to fail. Method: for each break, the rule is run in a child process, whose test must fail.
func TestRun_findsBrokenStores(t *testing.T) {
	if name := os.Getenv(breakVariable); name != "" {
		storetest.Run(t, func(*testing.T) checkpoint.Store { return breaks(storetest.NewMemory(nil))[name].store })
		return
	}
	for name, b := range breaks(nil) {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestRun_findsBrokenStores$/^"+b.rule+"$")
			cmd.Env = append(os.Environ(), breakVariable+"="+name)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "the rule: ") || !strings.Contains(string(out), "--- FAIL: TestRun_findsBrokenStores/"+b.rule) {
				t.Errorf("got %v, want the rule %s to fail:\n%s", err, b.rule, out)
			}
		})
	}
}
