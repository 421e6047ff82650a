package codec_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/internal/registry"
	"github.com/ingestd/ingestd/internal/registry/registrytest"
)

// memory is a pipeline's cache in a test.
type memory struct {
	mu      sync.Mutex
	objects map[string][]byte
	broken  bool
}

func (m *memory) Get(_ context.Context, name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken {
		return nil, errors.New("the store does not answer")
	}
	data, ok := m.objects[name]
	if !ok {
		return nil, codec.ErrNotCached
	}
	return bytes.Clone(data), nil
}

func (m *memory) Put(_ context.Context, name string, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken {
		return errors.New("the store does not answer")
	}
	if m.objects == nil {
		m.objects = map[string][]byte{}
	}
	if _, there := m.objects[name]; !there {
		m.objects[name] = bytes.Clone(data)
	}
	return nil
}

func serve(t *testing.T) *registrytest.Server {
	t.Helper()
	s := registrytest.New()
	t.Cleanup(s.Close)
	return s
}

func open(t *testing.T, url string, timeout time.Duration, cache codec.Cache) *codec.Registry {
	t.Helper()
	r, err := codec.NewRegistry(codec.RegistrySettings{URLs: []string{url}}, timeout)
	if err != nil {
		t.Fatal(err)
	}
	if cache != nil {
		r.UseCache(cache)
	}
	return r
}

func avroSchema(text string, refs ...registry.Reference) registry.Schema {
	return registry.Schema{Type: "AVRO", Text: text, References: refs}
}

// A schema comes with all that it refers to, each before what needs it, once.
func TestRegistry_references(t *testing.T) {
	s := serve(t)
	s.Add("a", avroSchema(`"a"`))
	s.Add("b", avroSchema(`"b"`, registry.Reference{Name: "A", Subject: "a", Version: 1}))
	id := s.Add("c", avroSchema(`"c"`, registry.Reference{Name: "B", Subject: "b", Version: 1}, registry.Reference{Name: "A", Subject: "a", Version: 1}))
	got, err := open(t, s.URL, time.Second, nil).Schema(id)
	if err != nil {
		t.Fatal(err)
	}
	want := &codec.RegisteredSchema{Type: "AVRO", Text: `"c"`, References: []codec.ReferencedSchema{{Name: "A", Text: `"a"`}, {Name: "B", Text: `"b"`}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// With the cache a known schema needs no registry, not even at the first look of another process; an unknown one is an error.
func TestRegistry_outage(t *testing.T) {
	s, m := serve(t), &memory{}
	id := s.Add("a", avroSchema(`"int"`))
	want, err := open(t, s.URL, time.Second, m).Schema(id)
	if err != nil {
		t.Fatal(err)
	}
	s.Fail(http.StatusServiceUnavailable)
	next := open(t, s.URL, 300*time.Millisecond, m)
	got, err := next.Schema(id)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Fatalf("%v %s", err, diff)
	}
	began := time.Now()
	if _, err := next.Schema(id + 1); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("got error %v, want what the registry said", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("an unknown schema was waited for for %s", took)
	}
	asked := s.Requests()
	for range 100 {
		if _, err := next.Schema(id + 1); err == nil {
			t.Fatal("got a schema from nowhere")
		}
	}
	if got := s.Requests() - asked; got != 0 {
		t.Errorf("got %d requests for an ID that was unknown a moment ago, want none", got)
	}
}

// Another registry has other IDs: its schemas are not those in the cache.
func TestRegistry_cacheIsOfOneRegistry(t *testing.T) {
	first, second, m := serve(t), serve(t), &memory{}
	id := first.Add("a", avroSchema(`"int"`))
	second.Add("b", avroSchema(`"string"`))
	for _, s := range []*registrytest.Server{first, second} {
		if _, err := open(t, s.URL, time.Second, m).Schema(id); err != nil {
			t.Fatal(err)
		}
	}
	got, err := open(t, second.URL, time.Second, m).Schema(id)
	if err != nil || got.Text != `"string"` || len(m.objects) != 2 {
		t.Errorf("got %+v, %v, and %d objects", got, err, len(m.objects))
	}
}

// A damaged object, and a cache that fails, are as good as none while the registry answers; what could not be kept is kept later.
func TestRegistry_cacheFails(t *testing.T) {
	s, m := serve(t), &memory{broken: true}
	one, two := s.Add("a", avroSchema(`"int"`)), s.Add("b", avroSchema(`"long"`))
	r := open(t, s.URL, time.Second, m)
	if _, err := r.Schema(one); err != nil {
		t.Fatal(err)
	}
	m.broken = false
	if _, err := r.Schema(two); err != nil {
		t.Fatal(err)
	}
	if len(m.objects) != 2 {
		t.Errorf("got %d objects, want both: the first was not taken at first", len(m.objects))
	}
	for name, data := range m.objects {
		m.objects[name] = bytes.ReplaceAll(data, []byte("int"), []byte("lnt"))
	}
	if got, err := open(t, s.URL, time.Second, m).Schema(one); err != nil || got.Text != `"int"` {
		t.Errorf("got %+v, %v from a damaged object, want what the registry says", got, err)
	}
}

// The form of a cached schema is read by every later version.
func TestRegistry_cachedFormIsGolden(t *testing.T) {
	s, m := serve(t), &memory{}
	s.Add("a", avroSchema(`"int"`))
	id := s.Add("b", avroSchema(`{"type":"array","items":"A"}`, registry.Reference{Name: "A", Subject: "a", Version: 1}))
	if _, err := open(t, s.URL, time.Second, m).Schema(id); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join("testdata", "schema.v1.json"))
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range m.objects {
		if diff := cmp.Diff(strings.TrimSpace(string(want)), string(data)); diff != "" {
			t.Error(diff)
		}
		if parts := strings.Split(name, "/"); len(parts) != 3 || parts[0] != "schemas" || parts[2] != "2" {
			t.Errorf("got name %q, want schemas/REGISTRY/2", name)
		}
		m.objects[name] = want
	}
	s.Fail(http.StatusServiceUnavailable)
	if got, err := open(t, s.URL, 100*time.Millisecond, m).Schema(id); err != nil || len(got.References) != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
}

// Many tasks that meet an unknown ID at once wait for one answer.
func TestRegistry_oneQuestionForAll(t *testing.T) {
	s := serve(t)
	id := s.Add("a", avroSchema(`"int"`))
	r := open(t, s.URL, time.Second, nil)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := r.Schema(id); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := s.Requests(); got != 1 {
		t.Errorf("got %d requests, want 1", got)
	}
}

// An ID that is not known is waited for once, then asked for at growing intervals, and found when it is there.
func TestRegistry_unknownIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := codec.NewRegistry(codec.RegistrySettings{URLs: []string{"http://registry.invalid"}}, 2*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		answers := 0
		there := false
		r.Client().Send(func(*http.Request) (*http.Response, error) {
			answers++
			if !there {
				return registrytest.Answer(http.StatusNotFound, `{"error_code":40403,"message":"Schema not found"}`), nil
			}
			return registrytest.Answer(http.StatusOK, `{"schema":"\"int\""}`), nil
		})
		began := time.Now()
		if _, err := r.Schema(7); err == nil || !strings.Contains(err.Error(), "schema 7") || !strings.Contains(err.Error(), "40403") {
			t.Errorf("got error %v", err)
		}
		if took := time.Since(began); took < time.Second || took > 2*time.Second {
			t.Errorf("waited %s, want up to 2 s", took)
		}
		first := answers
		for range 60 {
			time.Sleep(time.Second)
			_, _ = r.Schema(7)
		}
		if more := answers - first; more < 3 || more > 5 {
			t.Errorf("got %d questions in the next minute, want one after 5, 15 and 35 s", more)
		}
		there = true
		time.Sleep(time.Minute)
		if got, err := r.Schema(7); err != nil || got.Text != `"int"` {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}

func TestRegistry_registersOnce(t *testing.T) {
	s, m := serve(t), &memory{}
	ctx := t.Context()
	schema := codec.RegisteredSchema{Type: "AVRO", Text: `"int"`}
	subject := codec.Subject{Name: "orders-value"}
	if _, err := open(t, s.URL, 200*time.Millisecond, m).ID(ctx, codec.Subject{Name: "orders-value", Lookup: true}, schema); fault.KindOf(err) != fault.Misconfigured {
		t.Errorf("got error %v, want a misconfigured one: nobody registered the schema", err)
	}
	id, err := open(t, s.URL, time.Second, m).ID(ctx, subject, schema)
	if err != nil {
		t.Fatal(err)
	}
	s.Fail(http.StatusServiceUnavailable)
	if again, err := open(t, s.URL, 100*time.Millisecond, m).ID(ctx, subject, schema); err != nil || again != id {
		t.Errorf("got ID %d, %v without the registry, want %d", again, err, id)
	}
	_, err = open(t, s.URL, 100*time.Millisecond, nil).ID(ctx, subject, schema)
	if fault.KindOf(err) != fault.Transient {
		t.Errorf("got error %v without cache and registry, want a transient one", err)
	}
}

func TestRegistry_probe(t *testing.T) {
	s := serve(t)
	s.Compatible = func(registry.Schema, registry.Schema) []string { return []string{"reader type mismatch"} }
	s.Add("old-value", avroSchema(`"long"`))
	r := open(t, s.URL, 100*time.Millisecond, nil)
	schema := codec.RegisteredSchema{Type: "AVRO", Text: `"int"`}
	for _, test := range []struct {
		subject codec.Subject
		note    string
		block   string
	}{
		{codec.Subject{Name: "new-value"}, `registers a schema with subject "new-value": "int"`, ""},
		{codec.Subject{Name: "new-value", Lookup: true}, "", "does not have the schema"},
		{codec.Subject{Name: "old-value"}, "", "reader type mismatch"},
	} {
		notes, blocks, err := r.ProbeSchema(t.Context(), test.subject, schema)
		if err != nil || !strings.Contains(strings.Join(notes, ""), test.note) || !strings.Contains(strings.Join(blocks, ""), test.block) ||
			len(notes)+len(blocks) != 1 {
			t.Errorf("%+v: got %q, %q, %v", test.subject, notes, blocks, err)
		}
	}
	before := s.Requests()
	if notes, _, err := r.ProbeAnswers(t.Context()); err != nil || len(notes) != 1 || s.Requests() == before {
		t.Errorf("got %q, %v", notes, err)
	}
	s.Fail(http.StatusBadGateway)
	if _, _, err := r.ProbeAnswers(t.Context()); fault.KindOf(err) != fault.Transient {
		t.Errorf("got %v, want a transient error", err)
	}
	if _, _, err := r.ProbeSchema(t.Context(), codec.Subject{Name: "x"}, schema); fault.KindOf(err) != fault.Transient {
		t.Errorf("got %v, want a transient error", err)
	}
}

func TestSubjectSettings_strategies(t *testing.T) {
	no := false
	for _, test := range []struct {
		settings          codec.SubjectSettings
		topic, part, name string
		want              codec.Subject
		fails             string
	}{
		{settings: codec.SubjectSettings{}, topic: "t", part: "value", want: codec.Subject{Name: "t-value"}},
		{settings: codec.SubjectSettings{Topic: "own"}, part: "key", want: codec.Subject{Name: "own-key"}},
		{settings: codec.SubjectSettings{Strategy: codec.RecordName}, part: "value", name: "a.B", want: codec.Subject{Name: "a.B"}},
		{settings: codec.SubjectSettings{Strategy: codec.TopicRecordName}, topic: "t", name: "a.B", want: codec.Subject{Name: "t-a.B"}},
		{settings: codec.SubjectSettings{Subject: "s", Register: &no}, topic: "t", want: codec.Subject{Name: "s", Lookup: true}},
		{settings: codec.SubjectSettings{}, part: "value", fails: "so is the topic"},
		{settings: codec.SubjectSettings{Strategy: codec.RecordName}, topic: "t", fails: "has no name"},
	} {
		got, err := test.settings.Of(test.topic, test.part, test.name)
		if test.fails != "" {
			if err == nil || !strings.Contains(err.Error(), test.fails) {
				t.Errorf("%+v: got error %v, want one with %q", test.settings, err, test.fails)
			}
			continue
		}
		if got != test.want || err != nil {
			t.Errorf("%+v: got %+v, %v, want %+v", test.settings, got, err, test.want)
		}
	}
}

func TestNewRegistry_refusesSettings(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.pem")
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, s := range map[string]codec.RegistrySettings{
		"no address":           {},
		"none.pem":             {URLs: []string{"https://r"}, TLS: &codec.RegistryTLS{CA: missing}},
		"holds no certificate": {URLs: []string{"https://r"}, TLS: &codec.RegistryTLS{CA: empty}},
		"belong together":      {URLs: []string{"https://r"}, TLS: &codec.RegistryTLS{Cert: missing}},
	} {
		if _, err := codec.NewRegistry(s, 0); err == nil || !strings.Contains(err.Error(), want) || fault.KindOf(err) != fault.Misconfigured {
			t.Errorf("got error %v, want a misconfigured one with %q", err, want)
		}
	}
	spec := config.Spec{Doc: "D.", Keys: append(codec.RegistryKeys(), codec.SubjectKeys()...)}
	var all struct {
		Registry *codec.RegistrySettings `config:"registry"`
		Timeout  time.Duration           `config:"registry_timeout"`
		Subject  string                  `config:"subject"`
		Strategy codec.SubjectStrategy   `config:"subject_strategy"`
		Topic    string                  `config:"topic"`
		Register *bool                   `config:"register"`
	}
	if err := config.CheckSpec(spec, &all); err != nil {
		t.Error(err)
	}
	if _, err := json.Marshal(all); err != nil {
		t.Error(err)
	}
}
