package step

import "github.com/ingestd/ingestd/config"

func enrichSpec() config.Spec {
	return config.Spec{
		Type: typeEnrich,
		Doc: "Adds columns of a table to each record, by key. The table holds the newest row of each key of a compacted Kafka topic, or of files.\n" +
			"It is state: checkpoints hold it together with the positions up to which its input was read. At each start the input is read up to\n" +
			"its end before the first record of the pipeline's source; from then on rows of both come as they come.",
		Keys: []config.Key{
			keyedID("users"), keyKey(), {
				Name: "table", Kind: config.KindTable, Required: true, Doc: "The table.",
				Table: &config.Spec{Keys: []config.Key{
					{
						Name: "source", Kind: config.KindSection, Required: true, Example: `{ type = "kafka", brokers = ["localhost:9092"], topics = ["users"] }`,
						Doc: "Where its rows come from, with the keys of a source. Of several rows with a key the last one counts; order is kept within a\n" +
							"partition or a file only. Let a Kafka source begin at the earliest record.",
					},
					{
						Name: "decode", Kind: config.KindSection, Required: true, Example: `{ type = "json", columns = { id = "int64", name = "string" } }`,
						Doc: "How they become columns, with the keys of a decoder. The columns must be declared here.",
					},
					{
						Name: "key", Kind: config.KindStrings, Example: `["id"]`,
						Doc: "The columns of the table that match the key, in its order. By default those with the names of the key.",
					},
					{
						Name: "key_decode", Kind: config.KindSection, Example: `{ type = "json" }`,
						Doc: "A record without value takes its key out of the table. This says how the record's key holds the key columns. By default the\n" +
							"record's key is a text that holds the only one. A key that can't be read is a dead letter.",
					},
				}},
			}, {
				Name: "columns", Kind: config.KindStringMap, Required: true, Example: `{ user_name = "name" }`,
				Doc: "The columns that are added, and the table's column that each shows.",
			}, {
				Name: "missing", Kind: config.KindEnum, Enum: []string{string(MissingNull), string(MissingDeadLetter)}, Default: string(MissingNull),
				Doc: "What becomes of a record whose key the table does not have: the columns are null, or it becomes a dead letter.",
			},
		},
	}
}

type (
	enrichSettings struct {
		ID      string               `config:"id"`
		Key     []string             `config:"key"`
		Table   *enrichTableSettings `config:"table"`
		Columns []config.Entry       `config:"columns"`
		Missing string               `config:"missing"`
	}
	enrichTableSettings struct {
		Source    *config.Section `config:"source"`
		Decode    *config.Section `config:"decode"`
		Key       []string        `config:"key"`
		KeyDecode *config.Section `config:"key_decode"`
	}
)

func openEnrich(section *config.Section, place int) (KeyedStep, error) {
	s := enrichSettings{ID: placedID(section, place)}
	if !section.Decode(enrichSpec(), &s) {
		return nil, failedKeyed(section)
	}
	e := &Enrich{
		ID: s.ID, Key: s.Key, TableKey: s.Table.Key, Missing: Missing(s.Missing),
		Input: &EnrichInput{Source: s.Table.Source, Decode: s.Table.Decode, KeyDecode: s.Table.KeyDecode},
	}
	if len(e.TableKey) == 0 {
		e.TableKey = s.Key
	}
	for _, c := range s.Columns {
		e.Columns = append(e.Columns, EnrichColumn{Column: c.Key, From: c.Value})
	}
	return e, nil
}
