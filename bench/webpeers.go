package main

import (
	"bytes"
	"context"
	"encoding/gob"
	"net/http"
	"sync"
	"time"

	"github.com/alexedwards/scs/goredisstore"
	"github.com/alexedwards/scs/v2"
	"github.com/boj/redistore"
	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
)

// openSites opens ours first, then the peers. On error those already open are
// returned, too.
func openSites(ctx context.Context, terracotta, r *process) (sites []*site, err error) {
	ours, err := newOwnSite(ctx, terracotta)
	if err != nil {
		return nil, err
	}
	sites = append(sites, ours, &site{"scs in memory, not clustered", nil, scsHandler(scs.New()), func() {}})

	rdb := redis.NewClient(&redis.Options{Addr: r.addr})
	plain := scs.New()
	plain.Store = goredisstore.New(rdb)
	sites = append(sites, &site{"scs on Redis (goredisstore)", r, scsHandler(plain), func() { _ = rdb.Close() }})

	fast, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{r.addr}, DisableCache: true, ForceSingleClient: true})
	if err != nil {
		return sites, err
	}
	quick := scs.New()
	quick.Store = rueidisStore{fast}
	sites = append(sites, &site{"scs on Redis (a rueidis store of ours)", r, scsHandler(quick), fast.Close})

	key := securecookie.GenerateRandomKey(32)
	sites = append(sites, &site{"gorilla in memory (a map of ours), not clustered", nil, gorillaHandler(newMapStore(key)), func() {}})
	rs, err := redistore.NewRediStore(64, "tcp", r.addr, "", "", key)
	if err != nil {
		return sites, err
	}
	return append(sites, &site{"gorilla on Redis (redistore)", r, gorillaHandler(rs), func() { _ = rs.Close() }}), nil
}

func scsHandler(m *scs.SessionManager) http.Handler {
	return m.LoadAndSave(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := m.GetInt(r.Context(), "n")
		if n == 0 {
			m.Put(r.Context(), "note", note)
		}
		m.Put(r.Context(), "n", n+1)
		answer(w, nil)
	}))
}

func gorillaHandler(store sessions.Store) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := store.Get(r, "session")
		if err != nil {
			answer(w, err)
			return
		}
		n, _ := s.Values["n"].(int)
		if n == 0 {
			s.Values["note"] = note
		}
		s.Values["n"] = n + 1
		answer(w, s.Save(r, w))
	})
}

// rueidisStore is what scs would be on the faster client: the same commands as
// goredisstore.
type rueidisStore struct{ c rueidis.Client }

// FindCtx implements scs.CtxStore.
func (s rueidisStore) FindCtx(ctx context.Context, token string) ([]byte, bool, error) {
	b, err := s.c.Do(ctx, s.c.B().Get().Key("scs:session:"+token).Build()).AsBytes()
	if rueidis.IsRedisNil(err) {
		return nil, false, nil
	}
	return b, err == nil, err
}

// CommitCtx implements scs.CtxStore.
func (s rueidisStore) CommitCtx(ctx context.Context, token string, b []byte, expiry time.Time) error {
	return s.c.Do(ctx, s.c.B().Set().Key("scs:session:"+token).Value(rueidis.BinaryString(b)).
		PxMilliseconds(time.Until(expiry).Milliseconds()).Build()).Error()
}

// DeleteCtx implements scs.CtxStore.
func (s rueidisStore) DeleteCtx(ctx context.Context, token string) error {
	return s.c.Do(ctx, s.c.B().Del().Key("scs:session:"+token).Build()).Error()
}

// Find implements scs.Store.
func (s rueidisStore) Find(token string) ([]byte, bool, error) {
	return s.FindCtx(context.Background(), token)
}

// Commit implements scs.Store.
func (s rueidisStore) Commit(token string, b []byte, expiry time.Time) error {
	return s.CommitCtx(context.Background(), token, b, expiry)
}

// Delete implements scs.Store.
func (s rueidisStore) Delete(token string) error { return s.DeleteCtx(context.Background(), token) }

// mapStore is gorilla with a map: it has no store in memory of its own. Values
// are gobs, as in redistore, so that sessions don't share memory.
type mapStore struct {
	codecs []securecookie.Codec
	mu     sync.Mutex
	m      map[string][]byte // session id -> gob of the values
}

func newMapStore(key []byte) *mapStore {
	return &mapStore{codecs: securecookie.CodecsFromPairs(key), m: map[string][]byte{}}
}

// Get implements sessions.Store.
func (s *mapStore) Get(r *http.Request, name string) (*sessions.Session, error) {
	return sessions.GetRegistry(r).Get(s, name)
}

// New implements sessions.Store.
func (s *mapStore) New(r *http.Request, name string) (*sessions.Session, error) {
	session := sessions.NewSession(s, name)
	session.Options, session.IsNew = &sessions.Options{Path: "/", MaxAge: 3600}, true
	c, err := r.Cookie(name)
	if err != nil {
		return session, nil // no cookie is a new session
	}
	if err := securecookie.DecodeMulti(name, c.Value, &session.ID, s.codecs...); err != nil {
		return session, err
	}
	s.mu.Lock()
	b, ok := s.m[session.ID]
	s.mu.Unlock()
	if !ok {
		return session, nil
	}
	session.IsNew = false
	return session, gob.NewDecoder(bytes.NewReader(b)).Decode(&session.Values)
}

// Save implements sessions.Store.
func (s *mapStore) Save(_ *http.Request, w http.ResponseWriter, session *sessions.Session) error {
	if session.ID == "" {
		session.ID = string(securecookie.GenerateRandomKey(32))
	}
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(session.Values); err != nil {
		return err
	}
	s.mu.Lock()
	s.m[session.ID] = b.Bytes()
	s.mu.Unlock()
	encoded, err := securecookie.EncodeMulti(session.Name(), session.ID, s.codecs...)
	if err != nil {
		return err
	}
	http.SetCookie(w, sessions.NewCookie(session.Name(), encoded, session.Options))
	return nil
}
