package checkpoint

import "github.com/ingestd/ingestd/fault"

// EncodeObject returns the bytes of an object of a kind of its own, with the header and the form of body that log entries have. The
// same value gives the same bytes. Error kind: fault.Misconfigured for a text that is not valid UTF-8 and for an object above
// [ObjectBytesMax].
func EncodeObject(kind string, value any) ([]byte, error) {
	data, err := encode(kind, value)
	if err != nil {
		return nil, fault.E("checkpoint.EncodeObject", fault.Misconfigured, err)
	}
	return data, nil
}

// DecodeObject reads into value, a pointer, what [EncodeObject] wrote for the kind, and refuses every other byte. It keeps no
// reference to data. Error kinds: as of [Decode].
func DecodeObject(kind string, data []byte, value any) error {
	if err := decode(kind, data, value); err != nil {
		return classifyRead("checkpoint.DecodeObject", err)
	}
	return nil
}
