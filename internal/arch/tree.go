package arch

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// A Tree is the source tree as it lies on disk: every file of it, and the Go files of its module parsed.
// What version control ignores, and hidden folders other than .ci, are no part of it.
type Tree struct {
	files  fs.FS
	module string
	fset   *token.FileSet
	// sources are the Go files of the module: not those below testdata, nor those of a nested module.
	sources []*source
	// texts are all files that hold no zero byte, by name.
	texts   map[string][]byte
	lattice *lattice
}

// A source is a parsed Go file.
type source struct {
	name   string // below the root
	folder string // the package's, below the root; "." for the root
	test   bool   // a _test.go file
	ast    *ast.File
}

// Load reads the tree at root, which must hold a go.mod, with the import lattice given as text.
func Load(root, latticeText string) (*Tree, error) {
	t := &Tree{files: os.DirFS(root), fset: token.NewFileSet(), texts: map[string][]byte{}}
	mod, err := fs.ReadFile(t.files, "go.mod")
	if err != nil {
		return nil, err
	}
	line, _, _ := bytes.Cut(mod, []byte("\n"))
	name, ok := strings.CutPrefix(strings.TrimSpace(string(line)), "module ")
	if !ok {
		return nil, errors.New("go.mod does not begin with its module")
	}
	t.module = name
	if t.lattice, err = parseLattice(latticeText); err != nil {
		return nil, err
	}
	ignored, err := readIgnored(t.files)
	if err != nil {
		return nil, err
	}
	if err := fs.WalkDir(t.files, ".", func(name string, d fs.DirEntry, err error) error {
		return t.visit(name, d, ignored, err)
	}); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *Tree) visit(name string, d fs.DirEntry, ignored ignoredFiles, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a file that came and went while the tree was read is not part of it
	}
	if err != nil {
		return err
	}
	if d.IsDir() {
		hidden := strings.HasPrefix(name, ".") && name != "." && name != ".ci"
		if hidden || ignored.match(name+"/") {
			return fs.SkipDir
		}
		return nil
	}
	if !d.Type().IsRegular() || ignored.match(name) {
		return nil
	}
	text, err := fs.ReadFile(t.files, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if bytes.IndexByte(text, 0) < 0 {
		t.texts[name] = text
	}
	if !strings.HasSuffix(name, ".go") || t.foreign(name) {
		return nil
	}
	file, err := parser.ParseFile(t.fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	t.sources = append(t.sources, &source{name, path.Dir(name), strings.HasSuffix(name, "_test.go"), file})
	return nil
}

// foreign reports whether a Go file belongs to no package of the module.
func (t *Tree) foreign(name string) bool {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if path.Base(dir) == "testdata" {
			return true
		}
		if _, err := fs.Stat(t.files, dir+"/go.mod"); err == nil {
			return true
		}
	}
	return false
}

// place returns file:line of a node.
func (t *Tree) place(node ast.Node) string {
	p := t.fset.Position(node.Pos())
	return fmt.Sprintf("%s:%d", p.Filename, p.Line)
}

// exists reports whether a folder holds Go files of the module.
func (t *Tree) exists(folder string) bool {
	return slices.ContainsFunc(t.sources, func(s *source) bool { return s.folder == folder })
}

// packages returns the sources by folder.
func (t *Tree) packages() map[string][]*source {
	all := map[string][]*source{}
	for _, s := range t.sources {
		all[s.folder] = append(all[s.folder], s)
	}
	return all
}

// textNames returns the names of all text files, sorted.
func (t *Tree) textNames() []string { return slices.Sorted(maps.Keys(t.texts)) }

// importPath returns what an import names.
func importPath(spec *ast.ImportSpec) string {
	name, err := strconv.Unquote(spec.Path.Value)
	if err != nil {
		return spec.Path.Value
	}
	return name
}

// ignoredFiles are the patterns of .gitignore, in the two forms that the project uses: /folder/ and *.ending.
type ignoredFiles []string

func readIgnored(files fs.FS) (ignoredFiles, error) {
	text, err := fs.ReadFile(files, ".gitignore")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var patterns ignoredFiles
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if line := strings.TrimSpace(lines.Text()); line != "" && !strings.HasPrefix(line, "#") {
			patterns = append(patterns, line)
		}
	}
	return patterns, err
}

// match takes the name of a file, or of a folder with a slash at its end.
func (p ignoredFiles) match(name string) bool {
	return slices.ContainsFunc(p, func(pattern string) bool {
		if rooted, ok := strings.CutPrefix(pattern, "/"); ok {
			return name == rooted
		}
		ok, err := path.Match(pattern, path.Base(name))
		return ok && err == nil && !strings.HasSuffix(name, "/")
	})
}
