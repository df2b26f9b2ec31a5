// Package crl reads certificate revocation lists (X.509 version 2, RFC 5280),
// verifies them, and keeps up with the places that publish them.
//
// A list is held once, as the bytes that were signed; its entries are read out
// of these, one at a time. So a million entries cost the 40 to 50 MB that the
// list has, and no more.
//
// # What is believed
//
// Nothing of a list is believed before its signature was verified with the
// certificate of its issuer, which the caller knows from elsewhere: Read returns
// an Unverified, only Verify makes a List of it, and only a List yields entries.
// SHA-1 and MD5 are refused.
//
// A list must not be older than the last one of the same issuer, place and
// distribution point: its CRL number, and without one thisUpdate, must not go
// back. Otherwise whoever can write to the bucket could bring a revoked
// certificate back with an old list.
//
// A list whose nextUpdate has passed is taken in and reported as stale: what it
// revokes stays revoked, only what is missing is not known.
//
// # Disappearance is no un-revocation
//
// Entries leave a list when their certificate expires, a partition may be missing
// from a listing, and a list may be replaced by a partitioned one. Whoever takes
// in entries must therefore only ever add. So a certificate on hold
// (certificateHold) stays revoked, too.
//
// # Partitions
//
// AWS Private CA spreads a large CRL over files with random names, each with a
// critical issuingDistributionPoint. The revoked certificates of an issuer are
// the union of all of them by serial number; which file a certificate would be in
// does not matter.
//
// Refused: version 1, delta and indirect CRLs, CRLs of attribute certificates,
// unknown critical extensions.
package crl
