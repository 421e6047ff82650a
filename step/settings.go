package step

import (
	"fmt"
	"strconv"

	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

// The types of steps in a config.
const (
	typeFilter = "filter"
	typeRename = "rename"
	typeDrop   = "drop"
	typeCast   = "cast"
	typeSet    = "set"
)

// Specs describes the sections of all steps.
func Specs() []config.Spec {
	id := config.Key{
		Name: "id", Kind: config.KindString, Min: "1", Example: "only-paid",
		Doc: "The step's name in metrics, messages and dead letters. By default its type and its place, such as filter-2.",
	}
	return []config.Spec{
		{
			Type: typeFilter,
			Doc: "Keeps the records for which an expression is true; the others are counted as filtered. A record for which it can't be\n" +
				"evaluated becomes a dead letter.",
			Keys: []config.Key{id, {
				Name: "where", Kind: config.KindString, Required: true, Example: `amount > 0 && event == "click"`,
				Doc: "The expression. It reads columns and " + metadataDoc + ".",
			}},
		},
		{
			Type: typeRename,
			Doc:  "Gives columns other names.",
			Keys: []config.Key{id, {
				Name: "columns", Kind: config.KindStringMap, Required: true,
				Doc: "The new name for each old one.",
			}},
		},
		{
			Type: typeDrop,
			Doc:  "Takes columns out.",
			Keys: []config.Key{id, {
				Name: "columns", Kind: config.KindStrings, Required: true, Example: `["agent"]`,
				Doc: "The columns.",
			}},
		},
		{
			Type: typeCast,
			Doc: "Changes the types of columns. A value that the new type can't hold exactly makes the record a dead letter; only what\n" +
				"becomes a float is rounded.",
			Keys: []config.Key{id, {
				Name: "columns", Kind: config.KindStringMap, Required: true,
				Doc: "The new type for each column, written as in a decoder's columns.",
			}},
		},
		{
			Type: typeSet,
			Doc: "Fills new or existing columns from expressions, which all see the record as it was before the step. A value that does not\n" +
				"fit its column makes the record a dead letter.",
			Keys: []config.Key{
				id,
				{
					Name: "columns", Kind: config.KindStringMap, Required: true,
					Doc: "The expression for each column. It reads columns and " + metadataDoc + ".",
				},
				{
					Name: "types", Kind: config.KindStringMap,
					Doc: "The types of columns, where neither the column that is there nor the expression (int64, float64, string, bool,\n" +
						"timestamp(9)) gives the right one.",
				},
			},
		},
	}
}

const metadataDoc = "_topic, _partition, _offset, _timestamp, _key and _headers"

// The settings of each step.
type (
	filterSettings struct {
		ID    string `config:"id"`
		Where string `config:"where"`
	}
	renameSettings struct {
		ID      string            `config:"id"`
		Columns map[string]string `config:"columns"`
	}
	dropSettings struct {
		ID      string   `config:"id"`
		Columns []string `config:"columns"`
	}
	castSettings struct {
		ID      string         `config:"id"`
		Columns []config.Entry `config:"columns"`
	}
	setSettings struct {
		ID      string            `config:"id"`
		Columns []config.Entry    `config:"columns"`
		Types   map[string]string `config:"types"`
	}
)

// Open makes the step of a section. place is its number among the pipeline's steps, from 1. What is wrong with the section is
// reported there, at its place; the error is fault.Misconfigured.
func Open(section *config.Section, place int) (Step, error) {
	name := section.Type() + "-" + strconv.Itoa(place)
	switch section.Type() {
	case typeFilter:
		s := filterSettings{ID: name}
		if !decode(section, &s) {
			break
		}
		return &Filter{ID: s.ID, Where: s.Where}, nil
	case typeRename:
		s := renameSettings{ID: name}
		if !decode(section, &s) {
			break
		}
		return &Rename{ID: s.ID, Columns: s.Columns}, nil
	case typeDrop:
		s := dropSettings{ID: name}
		if !decode(section, &s) {
			break
		}
		return &Drop{ID: s.ID, Columns: s.Columns}, nil
	case typeCast:
		return openCast(section, name)
	case typeSet:
		return openSet(section, name)
	}
	return nil, failed(section)
}

func failed(section *config.Section) error {
	err := section.Err()
	if err == nil {
		err = fmt.Errorf("%s: there is no step of type %q", section.Path(), section.Type())
	}
	return fault.E("step.Open", fault.Misconfigured, err)
}

// decode decodes a section with the spec of its type.
func decode(section *config.Section, into any) bool {
	for _, spec := range Specs() {
		if spec.Type == section.Type() {
			return section.Decode(spec, into)
		}
	}
	return false
}

func openCast(section *config.Section, name string) (Step, error) {
	s := castSettings{ID: name}
	ok := decode(section, &s)
	cast := &Cast{ID: s.ID, Columns: make(map[string]record.Type, len(s.Columns))}
	for _, entry := range s.Columns {
		t, err := record.ParseType(entry.Value)
		if err != nil {
			section.Errorf("columns."+entry.Key, "%v", err)
			ok = false
		}
		cast.Columns[entry.Key] = t
	}
	if !ok {
		return nil, failed(section)
	}
	return cast, nil
}

func openSet(section *config.Section, name string) (Step, error) {
	s := setSettings{ID: name}
	ok := decode(section, &s)
	set := &Set{ID: s.ID}
	types := make(map[string]*record.Type, len(s.Types))
	for _, column := range sorted(s.Types) {
		t, err := record.ParseType(s.Types[column])
		if err != nil {
			section.Errorf("types."+column, "%v", err)
			ok = false
		}
		types[column] = &t
	}
	for _, entry := range s.Columns {
		set.Columns = append(set.Columns, Assignment{Column: entry.Key, Value: entry.Value, Type: types[entry.Key]})
		delete(types, entry.Key)
	}
	for _, column := range sorted(types) {
		section.Errorf("types."+column, "the step does not set this column")
		ok = false
	}
	if !ok {
		return nil, failed(section)
	}
	return set, nil
}
