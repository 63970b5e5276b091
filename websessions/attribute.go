package websessions

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

// Attribute is a typed attribute of sessions, usually a package variable:
//
//	var Cart = websessions.NewAttribute[[]string]("cart")
//
// Its methods take the context of a request that went through Handler, and are
// safe for concurrent use.
type Attribute[T any] struct {
	name string
	refs bool // T holds references, so that a value read can be changed in place
}

// NewAttribute returns the attribute of that name. It panics where the name is
// empty or longer than 1024 bytes.
func NewAttribute[T any](name string) Attribute[T] {
	if name == "" || len(name) > wire.MaxAttributeName {
		panic(fmt.Sprintf("websessions: attribute name has %d bytes; 1 to %d are allowed", len(name), wire.MaxAttributeName))
	}
	return Attribute[T]{name: name, refs: hasReferences(reflect.TypeFor[T]())}
}

// Name returns the attribute's name.
func (a Attribute[T]) Name() string { return a.name }

// Get returns the value in the request's session, or the zero T where it has
// none. The value is this request's own copy. Where T is a map, slice or pointer,
// or holds one, what the handler changes through it is noticed when the handler
// returns and committed; a change of the copy itself needs Set.
func (a Attribute[T]) Get(ctx context.Context) (v T, err error) {
	s := FromContext(ctx)
	if err := s.open(ctx); err != nil {
		return v, err
	}
	defer s.unlock()
	at := s.attrLocked(a.name)
	if have, ok := at.view.(*view[T]); ok {
		return have.value, nil
	}
	// Decoded as another type before: what was changed there counts first.
	if err := s.foldLocked(at); err != nil || !at.has {
		return v, err
	}
	fresh := &view[T]{tracked: a.refs}
	if err := s.m.cfg.Codec.Unmarshal(at.cur, &fresh.value); err != nil {
		return v, fmt.Errorf("decode attribute %q: %w", a.name, err)
	}
	at.view = fresh
	return fresh.value, nil
}

// Set sets the value; it keeps a copy, and wins over earlier changes in place.
// It begins a session where the request has none.
func (a Attribute[T]) Set(ctx context.Context, v T) error {
	s := FromContext(ctx)
	enc, err := s.m.cfg.Codec.Marshal(&v)
	if err != nil {
		return fmt.Errorf("encode attribute %q: %w", a.name, err)
	}
	return s.put(ctx, a.name, bytes.Clone(enc))
}

// Remove removes the attribute; one that is not there is no error.
func (a Attribute[T]) Remove(ctx context.Context) error { return FromContext(ctx).Remove(a.name) }

// Update is an atomic read-modify-write: f gets the newest value, or the zero T,
// and what it leaves is agreed by the cluster before Update returns, with no
// other request's change in between. f may run more than once and should do
// nothing else; an error of f ends Update, and nothing is changed. The request
// sees the result from then on.
func (a Attribute[T]) Update(ctx context.Context, f func(*T) error) error {
	s := FromContext(ctx)
	codec := s.m.cfg.Codec
	return s.update(ctx, a.name, func(cur []byte, has bool) (next []byte, same bool, err error) {
		var v, zero T
		if has {
			if err := codec.Unmarshal(cur, &v); err != nil {
				return nil, false, fmt.Errorf("decode attribute %q: %w", a.name, err)
			}
		}
		if err := f(&v); err != nil {
			return nil, false, err
		}
		enc, err := codec.Marshal(&v)
		if err != nil {
			return nil, false, fmt.Errorf("encode attribute %q: %w", a.name, err)
		}
		if !has { // to leave nothing as it was is no reason to begin a session
			return bytes.Clone(enc), reflect.DeepEqual(v, zero), nil
		}
		return bytes.Clone(enc), bytes.Equal(enc, cur), nil
	})
}

// update runs f until what it makes of a value is agreed as the change of that
// very value. The first try takes the value that the request has already read: a
// change of it is refused if it is old, and only if there is nothing to change,
// or f returns an error, does it need to be read again to be sure.
func (s *Session) update(ctx context.Context, name string, f func(cur []byte, has bool) (next []byte, same bool, err error)) error {
	began := time.Now()
	for fresh, try := false, 0; ; try++ {
		v, err := s.beginUpdate(ctx, name, fresh)
		if err != nil {
			return err
		}
		next, same, err := f(v.cur, v.has) // without the lock: f may use the session
		if err != nil || same {
			if fresh || !v.shared {
				return err
			}
			fresh = true
			continue
		}
		done, err := s.endUpdate(ctx, name, v, next)
		if done || err != nil {
			return err
		}
		fresh = true
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(rand.Int64N(int64(min(try+1, 20))*int64(time.Millisecond) + 1))):
		}
		if limit := s.patience.limit; ctx.Err() != nil || limit >= 0 && time.Since(began) > limit {
			return fmt.Errorf("update attribute %q: %w after %d attempts", name, ErrConflict, try+1)
		}
	}
}

// updating is the value that one round of update is based on.
type updating struct {
	cur    []byte
	has    bool
	gen    int
	shared bool // the session is known to the cluster, so others may change it too
}

func (s *Session) beginUpdate(ctx context.Context, name string, fresh bool) (updating, error) {
	if err := s.open(ctx); err != nil {
		return updating{}, err
	}
	defer s.unlock()
	a := s.attrLocked(name)
	if err := s.foldLocked(a); err != nil {
		return updating{}, err
	}
	if s.phase != live {
		return updating{cur: a.cur, has: a.has, gen: a.gen}, nil
	}
	if a.dirty() { // what the request has set before comes first
		dropped, err := s.commitLocked(ctx, a)
		if err != nil {
			return updating{}, err
		}
		fresh = fresh || len(dropped) > 0
	}
	if fresh {
		if err := s.refreshLocked(ctx, name, a); err != nil {
			return updating{}, err
		}
	}
	return updating{cur: a.cur, has: a.has, gen: a.gen, shared: true}, nil
}

// refreshLocked reads one attribute again, with a ticket of its own. The others
// stay as the request has seen them.
func (s *Session) refreshLocked(ctx context.Context, name string, a *attr) error {
	answer, err := s.loadLocked(ctx, s.key)
	if err != nil {
		return err
	}
	s.key = string(answer.Key)
	a.base, a.hasBase, a.ticket = nil, false, answer.Token
	for _, r := range answer.Attributes {
		if string(r.Name) == name {
			a.base, a.hasBase = r.Value, true
		}
	}
	a.put(a.base, a.hasBase)
	return nil
}

// endUpdate commits next. It is not done where another request, or another
// goroutine of this one, was first.
func (s *Session) endUpdate(ctx context.Context, name string, v updating, next []byte) (done bool, err error) {
	if err := s.open(ctx); err != nil {
		return false, err
	}
	defer s.unlock()
	a := s.attrLocked(name)
	if err := s.foldLocked(a); err != nil {
		return false, err
	}
	if a.gen != v.gen {
		return false, nil
	}
	if err := s.beginLocked(); err != nil {
		return false, err
	}
	if s.phase == pending {
		a.put(next, true)
		err := s.createLocked(ctx)
		if err != nil { // the handler is told that there was no update: then the request's end makes none
			a.put(v.cur, v.has)
		}
		return true, err
	}
	c := wire.Commit{Idle: wire.KeepIdle, Set: []wire.Attribute{{Name: []byte(name), Value: next}}}
	c.Key, c.Token = []byte(s.key), a.ticket
	out, err := s.commit(ctx, &c)
	if err != nil || len(out.Dropped) > 0 {
		return false, err
	}
	a.put(next, true)
	s.committedLocked(&c, out)
	return true, nil
}

// viewer is a decoded value that a handler holds.
type viewer interface {
	// encode returns the value's bytes if it is another value than from holds.
	encode(c Codec, from []byte) (enc []byte, changed bool, err error)
}

type view[T any] struct {
	value   T
	tracked bool
}

func (v *view[T]) encode(c Codec, from []byte) ([]byte, bool, error) {
	if !v.tracked {
		return nil, false, nil
	}
	enc, err := c.Marshal(&v.value)
	if err != nil || bytes.Equal(enc, from) {
		return nil, false, err
	}
	// Other bytes need not be another value: a codec may write maps in any order,
	// or the value was stored by an older version of T.
	var was T
	if err := c.Unmarshal(from, &was); err == nil {
		if reflect.DeepEqual(v.value, was) {
			return nil, false, nil
		}
		if again, err := c.Marshal(&was); err == nil && bytes.Equal(again, enc) {
			return nil, false, nil
		}
	}
	return bytes.Clone(enc), true, nil
}

// hasReferences reports whether a copy of a T shares memory with the original.
func hasReferences(t reflect.Type) bool {
	if t == reflect.TypeFor[time.Time]() {
		return false // its pointer leads to a location, which nobody changes
	}
	switch t.Kind() {
	case reflect.Map, reflect.Slice, reflect.Pointer, reflect.Interface, reflect.Chan, reflect.Func, reflect.UnsafePointer:
		return true
	case reflect.Array:
		return hasReferences(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if hasReferences(t.Field(i).Type) {
				return true
			}
		}
	}
	return false
}
