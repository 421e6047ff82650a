// Package registrytest is a schema registry in memory, with as much of the REST API of Confluent's as ingestd uses. The same test
// that holds the API's documented answers runs against it and against a real registry.
package registrytest

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"

	"github.com/ingestd/ingestd/internal/registry"
)

// The error codes of the API.
const (
	codeSubject = 40401
	codeVersion = 40402
	codeSchema  = 40403
	codeInvalid = 42201
	codeCompat  = 409
)

// Server is a registry. Its fields may be set before the first request.
type Server struct {
	*httptest.Server
	// Authorization is the header that requests must have; "" for none.
	Authorization string
	// Compatible says why a schema can't follow another one; nil: every schema can.
	Compatible func(next, last registry.Schema) []string

	mu       sync.Mutex
	schemas  []registry.Schema // by ID - 1
	subjects map[string][]int  // IDs, by version - 1
	status   int               // answered to everything, if not 0
	requests int
}

// New starts a registry; Close ends it.
func New() *Server {
	s := &Server{subjects: map[string][]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /subjects", s.list)
	mux.HandleFunc("GET /schemas/ids/{id}", s.byID)
	mux.HandleFunc("GET /subjects/{subject}/versions", s.versions)
	mux.HandleFunc("GET /subjects/{subject}/versions/{version}", s.byVersion)
	mux.HandleFunc("POST /subjects/{subject}", s.lookup)
	mux.HandleFunc("POST /subjects/{subject}/versions", s.register)
	mux.HandleFunc("POST /compatibility/subjects/{subject}/versions/{version}", s.compatible)
	s.Server = httptest.NewServer(s.guard(mux))
	return s
}

// Fail makes the registry answer everything with a status; 0 ends that.
func (s *Server) Fail(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
}

// Requests returns how many requests came.
func (s *Server) Requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// Add adds a schema to a subject and returns its ID.
func (s *Server) Add(subject string, schema registry.Schema) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint32(s.addLocked(subject, schema))
}

func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests++
		status := s.status
		s.mu.Unlock()
		switch {
		case status != 0:
			fail(w, status, status, "it fails")
		case s.Authorization != "" && r.Header.Get("Authorization") != s.Authorization:
			fail(w, http.StatusUnauthorized, http.StatusUnauthorized, "Unauthorized")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// Answer makes an answer of a registry, for tests without a network.
func Answer(status int, body string) *http.Response {
	w := httptest.NewRecorder()
	w.WriteHeader(status)
	_, _ = w.WriteString(body) //nolint:errcheck // it is memory
	return w.Result()
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/vnd.schemaregistry.v1+json")
	_ = json.NewEncoder(w).Encode(v) //nolint:errcheck // the client sees what it gets
}

func fail(w http.ResponseWriter, status, code int, message string) {
	w.Header().Set("Content-Type", "application/vnd.schemaregistry.v1+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error_code": code, "message": message}) //nolint:errcheck // the client sees what it gets
}

// wireSchema is a schema in requests and answers; an Avro schema has no type there.
type wireSchema struct {
	Subject    string               `json:"subject,omitempty"`
	ID         int                  `json:"id,omitempty"`
	Version    int                  `json:"version,omitempty"`
	SchemaType string               `json:"schemaType,omitempty"`
	Schema     string               `json:"schema"`
	References []registry.Reference `json:"references,omitempty"`
}

func toWire(schema registry.Schema) wireSchema {
	out := wireSchema{SchemaType: schema.Type, Schema: schema.Text, References: schema.References}
	if out.SchemaType == "AVRO" {
		out.SchemaType = ""
	}
	return out
}

// read reads the schema in a request.
func read(w http.ResponseWriter, r *http.Request) (registry.Schema, bool) {
	var in wireSchema
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || !json.Valid([]byte(in.Schema)) {
		fail(w, http.StatusUnprocessableEntity, codeInvalid, "Invalid schema")
		return registry.Schema{}, false
	}
	if in.SchemaType == "" {
		in.SchemaType = "AVRO"
	}
	return registry.Schema{Type: in.SchemaType, Text: in.Schema, References: in.References}, true
}

func (s *Server) list(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer(w, slices.AppendSeq([]string{}, slices.Values(slices.Sorted(maps.Keys(s.subjects)))))
}

func (s *Server) byID(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, err := strconv.Atoi(r.PathValue("id"))
	if err != nil || id < 1 || id > len(s.schemas) {
		fail(w, http.StatusNotFound, codeSchema, "Schema not found")
		return
	}
	answer(w, toWire(s.schemas[id-1]))
}

// subject returns the IDs of a subject, or has answered that there is none.
func (s *Server) subject(w http.ResponseWriter, r *http.Request) ([]int, bool) {
	ids, ok := s.subjects[r.PathValue("subject")]
	if !ok {
		fail(w, http.StatusNotFound, codeSubject, "Subject not found.")
	}
	return ids, ok
}

func (s *Server) versions(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ids, ok := s.subject(w, r); ok {
		out := []int{}
		for i := range ids {
			out = append(out, i+1)
		}
		answer(w, out)
	}
}

func (s *Server) byVersion(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids, ok := s.subject(w, r)
	if !ok {
		return
	}
	version := len(ids)
	if text := r.PathValue("version"); text != "latest" {
		version, _ = strconv.Atoi(text) //nolint:errcheck // 0 is no version
	}
	if version < 1 || version > len(ids) {
		fail(w, http.StatusNotFound, codeVersion, "Version not found.")
		return
	}
	out := toWire(s.schemas[ids[version-1]-1])
	out.Subject, out.Version, out.ID = r.PathValue("subject"), version, ids[version-1]
	answer(w, out)
}

func (s *Server) find(schema registry.Schema) int {
	at := slices.IndexFunc(s.schemas, func(other registry.Schema) bool {
		return other.Type == schema.Type && other.Text == schema.Text && slices.Equal(other.References, schema.References)
	})
	return at + 1
}

func (s *Server) lookup(w http.ResponseWriter, r *http.Request) {
	schema, ok := read(w, r)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ids, ok := s.subject(w, r)
	if !ok {
		return
	}
	id := s.find(schema)
	at := slices.Index(ids, id)
	if at < 0 {
		fail(w, http.StatusNotFound, codeSchema, "Schema not found")
		return
	}
	out := toWire(schema)
	out.Subject, out.Version, out.ID = r.PathValue("subject"), at+1, id
	answer(w, out)
}

func (s *Server) register(w http.ResponseWriter, r *http.Request) {
	schema, ok := read(w, r)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if reasons := s.reasonsLocked(r.PathValue("subject"), schema); len(reasons) > 0 {
		fail(w, http.StatusConflict, codeCompat, "Schema being registered is incompatible with an earlier schema: "+reasons[0])
		return
	}
	answer(w, map[string]int{"id": s.addLocked(r.PathValue("subject"), schema)})
}

func (s *Server) addLocked(subject string, schema registry.Schema) int {
	id := s.find(schema)
	if id == 0 {
		s.schemas = append(s.schemas, schema)
		id = len(s.schemas)
	}
	if !slices.Contains(s.subjects[subject], id) {
		s.subjects[subject] = append(s.subjects[subject], id)
	}
	return id
}

func (s *Server) reasonsLocked(subject string, schema registry.Schema) []string {
	ids := s.subjects[subject]
	if len(ids) == 0 || s.Compatible == nil {
		return nil
	}
	return s.Compatible(schema, s.schemas[ids[len(ids)-1]-1])
}

func (s *Server) compatible(w http.ResponseWriter, r *http.Request) {
	schema, ok := read(w, r)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.subject(w, r); !ok {
		return
	}
	reasons := s.reasonsLocked(r.PathValue("subject"), schema)
	answer(w, map[string]any{"is_compatible": len(reasons) == 0, "messages": append([]string{}, reasons...)})
}
