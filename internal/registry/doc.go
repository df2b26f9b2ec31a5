// Package registry holds the certificates of a fleet in memory: what the topic
// tocsin.identities has under "certificate/", in about 180 bytes each, so that an
// ingester and a decision endpoint can know ten million of them.
//
// A record is a compact encoding (record.go) in a slab of chunks without pointers
// (slab.go), which the garbage collector never looks into. An index by ID (idindex.go)
// has a 64-bit keyed fingerprint of the ID, the expiry and where the record is, so
// that a certificate that is known and unremarkable is stamped (stamp.go) with one
// access to memory that is not in a cache. Further indexes (refindex.go) lead from the
// issuer and serial number, and from the subject's common name, to the record.
//
// One goroutine writes at a time and any number read: they take a lock for whole
// records and none for stamping.
package registry
