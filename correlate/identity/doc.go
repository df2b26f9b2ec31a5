// Package identity is the registry: one record for every certificate and CA
// that the fleet has, merged from what the logs show, AWS IoT's inventory,
// revocation lists, audit reports and imports, and events about what it finds.
//
// # One is active
//
// The instances of the registry are a consumer group over tocsin.identities. The
// owner of partition 0 is active; the others follow the topic and have all
// records in memory when they take over. The active one reads facts (observed/,
// change/, issued/, revoked/, binding/, import/) and writes records (certificate/, ca/, crl/, sync/).
// How far it has read the facts is sync/facts. It moves only after what the facts
// changed has been acknowledged, and so does the cursor of every other source:
// whoever takes over does again what was not acknowledged, and merging a fact
// again changes nothing.
//
// An instance that lost its partition without noticing may still write a record
// that is older than the new owner's. Records carry their writer: the active
// instance merges a foreign one with its own and publishes the result again.
//
// # How facts are merged
//
// The order in which facts come does not matter, but for which names are kept
// when there are too many, and for facts of the same time.
//
//   - The state at the broker is that of the newest fact by its own time: an
//     event's is when it happened, the inventory's is lastModifiedDate, or when AWS
//     was asked. An event's account of who did it takes the place of the
//     inventory's. When AWS says otherwise than an event did, and knows of no
//     change since, AWS is right, which is a RegistryDisagreement.
//   - A certificate that was deleted, or that AWS IoT does not have, keeps its
//     record in the state UNKNOWN: its ID counts as unknown, and what is known of
//     it stays readable, for Options.ForgetAfter.
//   - What the CA revoked stays revoked: a list that no longer has a certificate
//     (lists drop expired ones) takes nothing back. The earliest revocation time is
//     kept, with its reason and source.
//   - A revocation in CloudTrail (AWS Private CA's RevokeCertificate) counts as one in
//     an audit report. It names the CA by its ARN only: the key identifier is told by
//     the events of certificates that the CA issues, or by AWS. Until then the
//     revocation waits, in sync/private-ca.
//   - What the certificate itself says (serial number, issuer, subject, validity,
//     key) never changes once read: its ID is the hash of it. AWS saying otherwise
//     is a RegistryDisagreement.
//   - Client IDs and things that the logs show are added to those known, newest
//     last, and the oldest fall out beyond schemas.MaxObserved. Things that the
//     inventory lists take the place of all others.
//   - The last address and time seen are the newest's; they alone make a record be
//     written again only every quarter of an hour.
//
// # What is found
//
// Findings are events of source registry in tocsin.events, acknowledged before the
// record that would keep them from being found again. Their IDs are hashes of what
// makes them unique, so a repeat after a crash is the same event. Of several
// expiry thresholds passed at once only the nearest to expiry is told.
//
// The time of such an event is when it was found, not the moment of the fact,
// which is in the message: an event that is hours old would take no part in
// windows, and would hold back the watermark of everything else in its partition.
package identity
