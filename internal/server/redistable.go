package server

import (
	"strings"

	"github.com/terracotta-go/terracotta/internal/resp"
	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// redisCommands are the commands of Redis that work on keys. They live in
// store.RedisDataset and never meet a session. docs/redis.md tells what differs from Redis.
func redisCommands() []command {
	rows := []command{
		{name: "DEL", args: "key [key ...]", summary: "End keys", group: "generic", arity: -2, keys: [3]int{1, -1, 1}, flags: writes, run: (*conn).redisDel},
		{name: "UNLINK", args: "key [key ...]", summary: "The same as DEL", group: "generic", arity: -2, keys: [3]int{1, -1, 1}, flags: writes, run: (*conn).redisDel},
		{name: "EXISTS", args: "key [key ...]", summary: "Count which of the keys there are", group: "generic", arity: -2, keys: [3]int{1, -1, 1}, flags: reads,
			run: reading(store.RedisExists, appendCount)},
		{name: "TYPE", args: "key", summary: "Tell what a key is: string, hash or none", group: "generic", arity: 2, keys: oneKey, flags: reads,
			run: reading(store.RedisType, appendType)},
		{name: "TTL", args: "key", summary: "Tell the seconds a key has to live", group: "generic", arity: 2, keys: oneKey, flags: reads,
			run: reading(store.RedisTTL, appendSeconds)},
		{name: "PTTL", args: "key", summary: "Tell the milliseconds a key has to live", group: "generic", arity: 2, keys: oneKey, flags: reads,
			run: reading(store.RedisTTL, appendCount)},
		{name: "EXPIRE", args: "key seconds [NX | XX | GT | LT]", summary: "Give a key a time to live", group: "generic", arity: -3, keys: oneKey, flags: writes,
			run: expiring("expire", 1000, false)},
		{name: "PEXPIRE", args: "key milliseconds [NX | XX | GT | LT]", summary: "Give a key a time to live", group: "generic", arity: -3, keys: oneKey, flags: writes,
			run: expiring("pexpire", 1, false)},
		{name: "EXPIREAT", args: "key unix-seconds [NX | XX | GT | LT]", summary: "Say when a key ends", group: "generic", arity: -3, keys: oneKey, flags: writes,
			run: expiring("expireat", 1000, true)},
		{name: "PEXPIREAT", args: "key unix-milliseconds [NX | XX | GT | LT]", summary: "Say when a key ends", group: "generic", arity: -3, keys: oneKey, flags: writes,
			run: expiring("pexpireat", 1, true)},
		{name: "PERSIST", args: "key", summary: "Take a key's time to live away", group: "generic", arity: 2, keys: oneKey, flags: writes, run: (*conn).redisPersist},
		{name: "SCAN", args: "cursor [MATCH pattern] [COUNT count] [TYPE type]", summary: "Walk through the keys", group: "generic", arity: -2, flags: []string{"readonly"},
			run: (*conn).redisScan},
		{name: "DBSIZE", summary: "Count the keys", group: "server", arity: 1, flags: reads, run: (*conn).redisSize},

		{name: "GET", args: "key", summary: "Read a string", group: "string", arity: 2, keys: oneKey, flags: reads, run: reading(store.RedisGet, appendValue)},
		{name: "MGET", args: "key [key ...]", summary: "Read strings, all at one moment", group: "string", arity: -2, keys: [3]int{1, -1, 1}, flags: reads,
			run: reading(store.RedisMGet, appendValues)},
		{name: "STRLEN", args: "key", summary: "Tell how long a string is", group: "string", arity: 2, keys: oneKey, flags: reads, run: reading(store.RedisLen, appendCount)},
		{name: "SET", args: "key value [NX | XX] [GET] [EX seconds | PX milliseconds | EXAT unix-seconds | PXAT unix-milliseconds | KEEPTTL]",
			summary: "Make a key a string", group: "string", arity: -3, keys: oneKey, flags: writes, run: (*conn).redisSet},
		{name: "SETEX", args: "key seconds value", summary: "Make a key a string with a time to live", group: "string", arity: 4, keys: oneKey, flags: writes,
			run: (*conn).redisSetEX},
		{name: "PSETEX", args: "key milliseconds value", summary: "Make a key a string with a time to live", group: "string", arity: 4, keys: oneKey, flags: writes,
			run: (*conn).redisPSetEX},
		{name: "SETNX", args: "key value", summary: "Make a key a string where there is none", group: "string", arity: 3, keys: oneKey, flags: writes, run: (*conn).redisSetNX},
		{name: "GETSET", args: "key value", summary: "Make a key a string and answer with the old one", group: "string", arity: 3, keys: oneKey, flags: writes,
			run: (*conn).redisGetSet},
		{name: "GETDEL", args: "key", summary: "Read a string and end its key", group: "string", arity: 2, keys: oneKey, flags: writes, run: (*conn).redisGetDel},
		{name: "GETEX", args: "key [EX seconds | PX milliseconds | EXAT unix-seconds | PXAT unix-milliseconds | PERSIST]",
			summary: "Read a string and give its key a time to live", group: "string", arity: -2, keys: oneKey, flags: writes, run: (*conn).redisGetEX},

		{name: "HSET", args: "key field value [field value ...]", summary: "Set fields of a hash", group: "hash", arity: -4, keys: oneKey, flags: writes, run: (*conn).redisHSet},
		{name: "HMSET", args: "key field value [field value ...]", summary: "The same, and answer OK", group: "hash", arity: -4, keys: oneKey, flags: writes, run: (*conn).redisHMSet},
		{name: "HSETNX", args: "key field value", summary: "Set a field of a hash where there is none", group: "hash", arity: 4, keys: oneKey, flags: writes, run: (*conn).redisHSetNX},
		{name: "HGET", args: "key field", summary: "Read a field of a hash", group: "hash", arity: 3, keys: oneKey, flags: reads, run: reading(store.RedisHMGet, appendValue)},
		{name: "HMGET", args: "key field [field ...]", summary: "Read fields of a hash", group: "hash", arity: -3, keys: oneKey, flags: reads, run: reading(store.RedisHMGet, appendValues)},
		{name: "HGETALL", args: "key", summary: "Read a whole hash", group: "hash", arity: 2, keys: oneKey, flags: reads, run: reading(store.RedisHGetAll, appendFields)},
		{name: "HKEYS", args: "key", summary: "Name the fields of a hash", group: "hash", arity: 2, keys: oneKey, flags: reads, run: reading(store.RedisHGetAll, appendFieldNames)},
		{name: "HVALS", args: "key", summary: "Read the values of a hash", group: "hash", arity: 2, keys: oneKey, flags: reads, run: reading(store.RedisHGetAll, appendFieldValues)},
		{name: "HDEL", args: "key field [field ...]", summary: "Remove fields of a hash", group: "hash", arity: -3, keys: oneKey, flags: writes, run: (*conn).redisHDel},
		{name: "HEXISTS", args: "key field", summary: "Tell whether a hash has a field", group: "hash", arity: 3, keys: oneKey, flags: reads, run: reading(store.RedisHMGet, appendWhether)},
		{name: "HLEN", args: "key", summary: "Count the fields of a hash", group: "hash", arity: 2, keys: oneKey, flags: reads, run: reading(store.RedisHLen, appendCount)},
	}
	for i := range rows {
		rows[i].cluster, rows[i].redis = true, true
	}
	return rows
}

var (
	reads  = []string{"readonly", "fast"}
	writes = []string{"write"}
	oneKey = [3]int{1, 1, 1}
)

// answerForm appends r as a command answers it.
type answerForm func(dst []byte, proto int, r *wire.RedisReply) []byte

func appendCount(dst []byte, _ int, r *wire.RedisReply) []byte { return resp.AppendInt(dst, r.N) }

func appendSeconds(dst []byte, _ int, r *wire.RedisReply) []byte {
	if r.N < 0 {
		return resp.AppendInt(dst, r.N)
	}
	return resp.AppendInt(dst, (r.N+500)/1000)
}

func appendType(dst []byte, _ int, r *wire.RedisReply) []byte {
	return resp.AppendSimple(dst, [...]string{wire.RedisNone: "none", wire.RedisString: "string", wire.RedisHash: "hash"}[r.N])
}

// appendDone answers OK, or null where a condition kept the change from being made.
func appendDone(dst []byte, proto int, r *wire.RedisReply) []byte {
	if r.N == 0 {
		return resp.AppendNull(dst, proto)
	}
	return resp.AppendSimple(dst, "OK")
}

func appendOK(dst []byte, _ int, _ *wire.RedisReply) []byte { return resp.AppendSimple(dst, "OK") }

func appendValue(dst []byte, proto int, r *wire.RedisReply) []byte {
	if r.Values[0] == nil {
		return resp.AppendNull(dst, proto)
	}
	return resp.AppendBulk(dst, r.Values[0])
}

func appendWhether(dst []byte, _ int, r *wire.RedisReply) []byte {
	if r.Values[0] == nil {
		return resp.AppendInt(dst, 0)
	}
	return resp.AppendInt(dst, 1)
}

func appendValues(dst []byte, proto int, r *wire.RedisReply) []byte {
	dst = resp.AppendArrayHeader(dst, len(r.Values))
	for _, v := range r.Values {
		if v == nil {
			dst = resp.AppendNull(dst, proto)
		} else {
			dst = resp.AppendBulk(dst, v)
		}
	}
	return dst
}

func appendFields(dst []byte, proto int, r *wire.RedisReply) []byte {
	dst = resp.AppendMapHeader(dst, proto, len(r.Values)/2)
	for _, v := range r.Values {
		dst = resp.AppendBulk(dst, v)
	}
	return dst
}

func appendFieldNames(dst []byte, _ int, r *wire.RedisReply) []byte {
	return appendEverySecond(dst, r.Values, 0)
}

func appendFieldValues(dst []byte, _ int, r *wire.RedisReply) []byte {
	return appendEverySecond(dst, r.Values, 1)
}

func appendEverySecond(dst []byte, list [][]byte, from int) []byte {
	dst = resp.AppendArrayHeader(dst, len(list)/2)
	for i := from; i < len(list); i += 2 {
		dst = resp.AppendBulk(dst, list[i])
	}
	return dst
}

// wrongArguments is Redis's text, which its clients look for.
func wrongArguments(cmd *command) string {
	return "wrong number of arguments for '" + strings.ToLower(cmd.name) + "' command"
}
