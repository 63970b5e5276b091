// Package foreign holds the tests in which other people's clients speak with a
// server of ours: redis-cli, redis-benchmark, redis-py, phpredis, PHP's session handler,
// go-redis and rueidis; and the examples of docs/redis.md. It is a module of its own,
// so that the clients stay out of the builds of those who import ours.
package foreign
