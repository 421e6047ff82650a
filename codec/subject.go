package codec

import (
	"errors"

	"github.com/ingestd/ingestd/config"
)

// SubjectSettings say under which subject of a registry the schema of encoded rows is.
type SubjectSettings struct {
	Subject  string          `config:"subject"`
	Strategy SubjectStrategy `config:"subject_strategy"` // empty: topic
	Topic    string          `config:"topic"`
	Register *bool           `config:"register"` // nil: true
}

// SubjectStrategy makes the name of a subject.
type SubjectStrategy string

const (
	// TopicName is TOPIC-value, or TOPIC-key; it is the default.
	TopicName SubjectStrategy = "topic"
	// RecordName is the record's full name.
	RecordName SubjectStrategy = "record"
	// TopicRecordName is TOPIC- and the record's full name.
	TopicRecordName SubjectStrategy = "topic_record"
)

// SubjectKeys describes the keys of [SubjectSettings].
func SubjectKeys() []config.Key {
	return []config.Key{
		{
			Name: "subject", Kind: config.KindString, Example: "orders-value",
			Doc: "The subject that the schema is registered with. By default it is made by `subject_strategy`.",
		},
		{
			Name: "subject_strategy", Kind: config.KindEnum, Default: string(TopicName),
			Enum: []string{string(TopicName), string(RecordName), string(TopicRecordName)},
			Doc:  "The subject's name: TOPIC-value or TOPIC-key, the record's full name, or TOPIC-NAME with both.",
		},
		{Name: "topic", Kind: config.KindString, Doc: "The topic of the strategies, for sinks that have none themselves."},
		{
			Name: "register", Kind: config.KindBool, Default: "true",
			Doc: "Whether a schema that the subject does not have is registered at the first start. Otherwise the start waits until it is there.",
		},
	}
}

// Of returns the subject of a topic's keys or values (part), whose schema has a name.
func (s SubjectSettings) Of(topic, part, name string) (Subject, error) {
	out := Subject{Name: s.Subject, Lookup: s.Register != nil && !*s.Register}
	if topic == "" {
		topic = s.Topic
	}
	switch {
	case out.Name != "":
		return out, nil
	case s.Strategy != RecordName && topic == "":
		return out, errors.New("subject: the key is missing, and so is the topic to make it of")
	case s.Strategy != TopicRecordName && s.Strategy != RecordName:
		out.Name = topic + "-" + part
		return out, nil
	case name == "":
		return out, errors.New("subject: the schema has no name to make it of")
	case s.Strategy == RecordName:
		out.Name = name
		return out, nil
	}
	out.Name = topic + "-" + name
	return out, nil
}
