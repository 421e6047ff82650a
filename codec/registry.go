package codec

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/internal/registry"
	"github.com/ingestd/ingestd/record"
)

// Cache keeps small objects of a pipeline that never change under their name, in its checkpoint store. Its methods may be called
// by several goroutines at the same time.
type Cache interface {
	// Get returns an object, or an error that is [ErrNotCached].
	Get(ctx context.Context, name string) ([]byte, error)
	// Put keeps an object. One that is there already stays, and that is no error. Names are made of lower-case letters, digits,
	// "-" and "/".
	Put(ctx context.Context, name string, data []byte) error
}

// ErrNotCached says that a cache does not have an object.
var ErrNotCached = errors.New("the object is not cached")

// CacheUser is a [Factory] or [EncoderFactory] that keeps something in the pipeline's cache.
type CacheUser interface {
	// UseCache gives the cache. It is called once, before decoders and encoders are made.
	UseCache(c Cache)
}

// TopicEncoder is an [EncoderFactory] whose forms depend on the topic that they go to.
type TopicEncoder interface {
	EncoderFactory
	// ForTopic returns the factory for a topic; part is "key" or "value".
	ForTopic(topic, part string) EncoderFactory
}

// Prober is a [Factory] or [EncoderFactory] that works with a server. `validate --connect` asks it.
type Prober interface {
	// Probe talks to the server without changing anything there; schema is that of the decoded or encoded rows. The first texts are
	// what a person should know, the second ones what keeps it from working. The error is fault.Transient: the server does not
	// answer.
	Probe(ctx context.Context, schema *record.Schema) (notes, blocks []string, err error)
}

// RegistrySettings is the table `registry` of a section.
type RegistrySettings struct {
	URLs     []string      `config:"urls"`
	Username string        `config:"username"`
	Password config.Secret `config:"password"`
	Token    config.Secret `config:"token"`
	TLS      *RegistryTLS  `config:"tls"`
}

// RegistryTLS is the table `tls` of a registry.
type RegistryTLS struct {
	CA                 string `config:"ca"`
	Cert               string `config:"cert"`
	Key                string `config:"key"`
	ServerName         string `config:"server_name"`
	InsecureSkipVerify bool   `config:"insecure_skip_verify"`
}

// registryTimeout is the default of registry_timeout.
const registryTimeout = 30 * time.Second

// RegistryKeys describes the keys `registry` and `registry_timeout` of a section.
func RegistryKeys() []config.Key {
	tlsSpec := config.Spec{
		Doc: "Encrypted connections.",
		Keys: []config.Key{
			{Name: "ca", Kind: config.KindString, Doc: "File with the certificates (PEM) that are trusted; absent: the system's."},
			{Name: "cert", Kind: config.KindString, Doc: "File with this client's certificate (PEM), together with key."},
			{Name: "key", Kind: config.KindString, Doc: "File with this client's private key (PEM)."},
			{Name: "server_name", Kind: config.KindString, Doc: "Name in the registry's certificate; absent: the host's name."},
			{
				Name: "insecure_skip_verify", Kind: config.KindBool, Default: "false",
				Doc: "Accept any certificate. Whoever can answer in the registry's place can then read and forge everything.",
			},
		},
	}
	spec := config.Spec{
		Doc: "A schema registry with the REST API of Confluent's.",
		Keys: []config.Key{
			{
				Name: "urls", Kind: config.KindStrings, Required: true, Example: `["http://localhost:8081"]`,
				Doc: "Its addresses; when one does not answer the next is asked. A path before /subjects and /schemas belongs to the address.\n" +
					"Schema IDs are those of the registry of the first address: after a change of it, schemas are asked for again.",
			},
			{Name: "username", Kind: config.KindString, Doc: "The user's name, with password."},
			{Name: "password", Kind: config.KindSecret, Example: "${env:REGISTRY_PASSWORD}", Doc: "The user's password."},
			{Name: "token", Kind: config.KindSecret, Example: "${env:REGISTRY_TOKEN}", Doc: "A bearer token, in place of a user."},
			{Name: "tls", Kind: config.KindTable, Table: &tlsSpec, Doc: "For https: what is trusted, and this client's certificate."},
		},
	}
	return []config.Key{
		{
			Name: "registry", Kind: config.KindTable, Table: &spec,
			Doc: "The schema registry. Schemas that were read once are kept with the pipeline's checkpoints, so that it need not answer for\n" +
				"them again.",
		},
		{
			Name: "registry_timeout", Kind: config.KindDuration, Default: "30s", Min: "100ms", Max: "10m",
			Doc: "How long a record with an unknown schema ID waits for the registry before it becomes a dead letter. The next records with\n" +
				"that ID do not wait.",
		},
	}
}

// Registry gives schemas by their IDs, from memory, from the pipeline's cache, or from a schema registry. It may be used by several
// goroutines at the same time.
type Registry struct {
	client  *registry.Client
	origin  string // tells registries apart in the cache
	timeout time.Duration

	mu struct {
		sync.Mutex
		cache   Cache
		known   map[uint32]*RegisteredSchema
		unknown map[uint32]*unknownSchema
		asked   map[uint32]chan struct{} // being asked for; closed when answered
		unsaved map[string][]byte        // what the cache did not take
	}
}

// unknownSchema is an ID that the registry gave no schema for.
type unknownSchema struct {
	err   error
	again time.Time     // when it is asked again, once, without waiting
	gap   time.Duration // to the time after that
}

// RegisteredSchema is a schema with all schemas that it refers to, directly or not, each behind those that it needs itself.
type RegisteredSchema struct {
	Type       string             `json:"type"` // AVRO, JSON or PROTOBUF
	Text       string             `json:"schema"`
	References []ReferencedSchema `json:"references,omitempty"`
}

// ReferencedSchema is a schema that another one refers to by a name.
type ReferencedSchema struct {
	Name string `json:"name"`
	Text string `json:"schema"`
}

// NewRegistry checks settings; it reads the files of the tls table and does no other I/O. A zero timeout is 30 s. The error is
// fault.Misconfigured.
func NewRegistry(s RegistrySettings, timeout time.Duration) (*Registry, error) {
	const op = "codec.NewRegistry"
	if timeout == 0 {
		timeout = registryTimeout
	}
	settings := registry.Settings{URLs: s.URLs, Username: s.Username, Password: s.Password.Reveal(), Token: s.Token.Reveal()}
	if s.TLS != nil {
		var err error
		if settings.TLS, err = s.TLS.load(); err != nil {
			return nil, fault.E(op, fault.Misconfigured, fmt.Errorf("registry.tls: %w", err))
		}
	}
	client, err := registry.New(settings)
	if err != nil {
		return nil, fault.E(op, fault.Misconfigured, fmt.Errorf("registry: %w", err))
	}
	sum := sha256.Sum256([]byte(client.Origin()))
	r := &Registry{client: client, origin: hex.EncodeToString(sum[:8]), timeout: timeout}
	r.mu.known, r.mu.unknown = map[uint32]*RegisteredSchema{}, map[uint32]*unknownSchema{}
	r.mu.asked, r.mu.unsaved = map[uint32]chan struct{}{}, map[string][]byte{}
	return r, nil
}

func (t *RegistryTLS) load() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName, InsecureSkipVerify: t.InsecureSkipVerify} //nolint:gosec // as configured
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", t.CA)
		}
	}
	if (t.Cert == "") != (t.Key == "") {
		return nil, errors.New("cert and key belong together")
	}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// UseCache gives the pipeline's cache.
func (r *Registry) UseCache(c Cache) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.cache = c
}

// Client returns the client of the registry itself.
func (r *Registry) Client() *registry.Client { return r.client }

// Timeout is how long an answer is waited for.
func (r *Registry) Timeout() time.Duration { return r.timeout }

// Schema returns the schema with an ID. It waits for the registry up to the timeout, the first time that it is asked for an ID; the
// error says then why there is none. From then on a missing schema is asked for once in a while, and the same error is returned at
// once in between.
func (r *Registry) Schema(id uint32) (*RegisteredSchema, error) {
	for {
		r.mu.Lock()
		if s := r.mu.known[id]; s != nil {
			r.mu.Unlock()
			return s, nil
		}
		missing := r.mu.unknown[id]
		if missing != nil && r.client.Now().Before(missing.again) {
			r.mu.Unlock()
			return nil, missing.err
		}
		wait := r.mu.asked[id]
		if wait == nil {
			done := make(chan struct{})
			r.mu.asked[id] = done
			r.mu.Unlock()
			return r.ask(id, missing, done)
		}
		r.mu.Unlock()
		<-wait
	}
}

// ask looks for a schema in the cache and in the registry.
func (r *Registry) ask(id uint32, missing *unknownSchema, done chan struct{}) (*RegisteredSchema, error) {
	ctx, cancel := context.WithTimeout(context.Background(), r.timeout)
	defer cancel()
	s, err := r.cached(ctx, id)
	if err != nil {
		attempt := r.client.Patiently
		if missing != nil {
			attempt = r.client.Once
		}
		if s, err = r.fetch(ctx, id, attempt); err == nil {
			r.keep(ctx, id, s)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.mu.asked, id)
	close(done)
	if err == nil {
		r.mu.known[id] = s
		delete(r.mu.unknown, id)
		return s, nil
	}
	err = fmt.Errorf("schema %d: %w", id, err)
	r.missLocked(id, missing, err)
	return nil, err
}

// missLocked remembers that there is no schema with an ID.
func (r *Registry) missLocked(id uint32, missing *unknownSchema, err error) {
	const (
		gapMin, gapMax = 5 * time.Second, 5 * time.Minute
		unknownMax     = 10_000 // beyond, records hold random IDs
	)
	gap := gapMin
	if missing != nil {
		gap = min(2*missing.gap, gapMax)
	}
	if len(r.mu.unknown) >= unknownMax {
		clear(r.mu.unknown)
	}
	r.mu.unknown[id] = &unknownSchema{err: err, gap: gap, again: r.client.Now().Add(gap)}
}

// referencesMax bounds how many schemas one refers to.
const referencesMax = 1000

// fetch gets a schema, and all that it refers to, from the registry.
func (r *Registry) fetch(ctx context.Context, id uint32, attempt registry.Attempt) (*RegisteredSchema, error) {
	found, err := r.client.ByID(ctx, id, attempt)
	if err != nil {
		return nil, err
	}
	s := &RegisteredSchema{Type: found.Type, Text: found.Text}
	seen := map[string]bool{}
	if err := r.references(ctx, s, found.References, seen); err != nil {
		return nil, err
	}
	return s, nil
}

func (r *Registry) references(ctx context.Context, s *RegisteredSchema, refs []registry.Reference, seen map[string]bool) error {
	for _, ref := range refs {
		if seen[ref.Name] {
			continue
		}
		seen[ref.Name] = true
		if len(seen) > referencesMax {
			return fmt.Errorf("it refers to more than %d schemas", referencesMax)
		}
		found, err := r.client.ByVersion(ctx, ref.Subject, ref.Version, r.client.Patiently)
		if err != nil {
			return fmt.Errorf("reference %q: %w", ref.Name, err)
		}
		if err := r.references(ctx, s, found.References, seen); err != nil {
			return err
		}
		s.References = append(s.References, ReferencedSchema{Name: ref.Name, Text: found.Text})
	}
	return nil
}

func (r *Registry) objectName(id uint32) string {
	return "schemas/" + r.origin + "/" + strconv.FormatUint(uint64(id), 10)
}

// cachedSchema is an object of the cache. The sum is of the schema's JSON.
type cachedSchema struct {
	Format int             `json:"format"`
	Sum    uint32          `json:"crc32c"`
	Schema json.RawMessage `json:"schema"`
}

const cachedFormat = 1

// cached looks into the cache. What is damaged there is as good as missing: the registry has it.
func (r *Registry) cached(ctx context.Context, id uint32) (*RegisteredSchema, error) {
	r.mu.Lock()
	cache := r.mu.cache
	r.mu.Unlock()
	if cache == nil {
		return nil, ErrNotCached
	}
	data, err := cache.Get(ctx, r.objectName(id))
	if err != nil {
		return nil, err
	}
	return readCached(data)
}

func readCached(data []byte) (*RegisteredSchema, error) {
	var c cachedSchema
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, err
	}
	if c.Format != cachedFormat || c.Sum != crc32.Checksum(c.Schema, crc32.MakeTable(crc32.Castagnoli)) {
		return nil, fmt.Errorf("the cached schema has format %d, or another checksum", c.Format)
	}
	s := &RegisteredSchema{}
	return s, json.Unmarshal(c.Schema, s)
}

// keep puts a schema into the cache, and what it did not take before. It may fail: the schema is in memory, and the next one
// brings the next attempt.
func (r *Registry) keep(ctx context.Context, id uint32, s *RegisteredSchema) {
	inner, err := json.Marshal(s)
	if err != nil {
		return // it came from JSON
	}
	data, err := json.Marshal(cachedSchema{Format: cachedFormat, Sum: crc32.Checksum(inner, crc32.MakeTable(crc32.Castagnoli)), Schema: inner})
	if err != nil {
		return
	}
	r.mu.Lock()
	cache := r.mu.cache
	r.mu.unsaved[r.objectName(id)] = data
	waiting := maps.Clone(r.mu.unsaved)
	r.mu.Unlock()
	if cache == nil {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(waiting)) {
		if cache.Put(ctx, name, waiting[name]) != nil {
			return
		}
		r.mu.Lock()
		delete(r.mu.unsaved, name)
		r.mu.Unlock()
	}
}

// Subject is where a schema is registered, and how.
type Subject struct {
	Name string
	// Lookup says that the schema must be there already: nothing is registered.
	Lookup bool
}

// ID returns the ID of a schema in a subject, from the pipeline's cache or from the registry, where it is registered if it is not
// there yet. Error kinds: Transient, the registry does not answer; Misconfigured, it refuses the schema.
func (r *Registry) ID(ctx context.Context, subject Subject, s RegisteredSchema) (uint32, error) {
	const op = "codec.Registry.ID"
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	sum := sha256.Sum256([]byte(subject.Name + "\x00" + s.Type + "\x00" + s.Text))
	name := "schema-ids/" + r.origin + "/" + hex.EncodeToString(sum[:16])
	r.mu.Lock()
	cache := r.mu.cache
	r.mu.Unlock()
	if cache != nil {
		if data, err := cache.Get(ctx, name); err == nil {
			if id, err := strconv.ParseUint(string(data), 10, 32); err == nil {
				return uint32(id), nil
			}
		}
	}
	ask := r.client.Register
	if subject.Lookup {
		ask = r.client.Lookup
	}
	id, err := ask(ctx, subject.Name, registry.Schema{Type: s.Type, Text: s.Text}, r.client.Patiently)
	switch {
	case err != nil && registry.Definite(err):
		return 0, fault.E(op, fault.Misconfigured, fmt.Errorf("subject %q: %w", subject.Name, err))
	case err != nil:
		return 0, fault.E(op, fault.Transient, fmt.Errorf("subject %q: %w", subject.Name, err))
	}
	if cache != nil {
		_ = cache.Put(ctx, name, strconv.AppendUint(nil, uint64(id), 10)) //nolint:errcheck // it saves the next start a question
	}
	return id, nil
}

// ProbeSchema tells what a registration of a schema would meet.
func (r *Registry) ProbeSchema(ctx context.Context, subject Subject, s RegisteredSchema) (notes, blocks []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	asked := registry.Schema{Type: s.Type, Text: s.Text}
	id, err := r.client.Lookup(ctx, subject.Name, asked, r.client.Once)
	switch {
	case err == nil:
		return []string{fmt.Sprintf("subject %q has the schema, its ID is %d", subject.Name, id)}, nil, nil
	case !registry.NotFound(err) && registry.Definite(err):
		return nil, []string{fmt.Sprintf("subject %q: %s", subject.Name, err)}, nil
	case !registry.NotFound(err):
		return nil, nil, fault.E("codec.Registry.Probe", fault.Transient, err)
	case subject.Lookup:
		return nil, []string{fmt.Sprintf("subject %q does not have the schema, and register is false: %s", subject.Name, s.Text)}, nil
	}
	ok, reasons, err := r.client.Compatible(ctx, subject.Name, asked, r.client.Once)
	switch {
	case err != nil && registry.Definite(err):
		return nil, []string{fmt.Sprintf("subject %q: %s", subject.Name, err)}, nil
	case err != nil:
		return nil, nil, fault.E("codec.Registry.Probe", fault.Transient, err)
	case !ok:
		return nil, []string{fmt.Sprintf("the schema is not compatible with the newest one of subject %q: %s", subject.Name, strings.Join(reasons, "; "))}, nil
	}
	return []string{fmt.Sprintf("the first start registers a schema with subject %q: %s", subject.Name, s.Text)}, nil, nil
}

// ProbeAnswers tells whether the registry answers.
func (r *Registry) ProbeAnswers(ctx context.Context) (notes, blocks []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	n, err := r.client.Subjects(ctx, r.client.Once)
	switch {
	case err != nil && registry.Definite(err):
		return nil, []string{err.Error()}, nil
	case err != nil:
		return nil, nil, fault.E("codec.Registry.Probe", fault.Transient, err)
	}
	return []string{fmt.Sprintf("the schema registry answers, with %d subjects", n)}, nil, nil
}
