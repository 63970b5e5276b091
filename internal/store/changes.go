package store

import "time"

// Change is a record that was changed, or the end of one.
type Change struct {
	Dataset string
	Key     []byte // valid only inside the function it was handed to
	Version uint64 // of the record; 0 where it has ended
	Ended   string // why it ended, "" where there is one
}

// Changes calls f with every record that was changed by an operation behind the
// store index since, and every one that ended later than the log time after,
// as far as tombstones still tell; by dataset, in no order otherwise. A mere access
// is no change. It is for the goroutine that calls Apply. It ends with f's error.
func (s *Store) Changes(since uint64, after Time, f func(Change) error) error {
	n := s.Snapshot()
	defer n.Release()
	if n.cluster == nil {
		return nil
	}
	ended := after + Time(lifeOf(n.cluster)/time.Millisecond)
	var r record
	for i := range n.datasets {
		d := &n.datasets[i]
		for j := range d.segments {
			records, traces := d.segments[j].blocks()
			for _, b := range records {
				if b.read(&r); r.Version <= since {
					continue
				}
				if err := f(Change{Dataset: d.name, Key: r.Key, Version: r.Version}); err != nil {
					return err
				}
			}
			for _, b := range traces {
				t := b.trace()
				if t.target != nil || t.until <= ended {
					continue // an alias: the record that it leads to was changed with it
				}
				if err := f(Change{Dataset: d.name, Key: t.key, Ended: string(t.reason)}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
