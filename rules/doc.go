// Package rules reads Sigma rules (https://sigmahq.io), compiles all of them
// together and matches events against them. It needs neither Kafka nor
// ClickHouse.
//
// The language is Sigma's specification v2.1.0 with the clarified parts of v2.2,
// and pySigma's value_median, percentile and boolean temporal conditions. Where
// the specification leaves something open, this is what is meant here; each line
// has a test.
//
// # Log sources
//
// The events that the pipeline carries are of product aws; their service is the
// event's source: iot, lifecycle, cloudtrail, guardduty, devicedefender, registry,
// behavior, generic.
// What a rule's logsource names must be the event's; what it does not name is
// not asked for.
//
// # Fields
//
//   - A field is addressed by the message's own JSON keys: userIdentity.arn is the
//     member arn of the object userIdentity, or a member whose key has the dot in
//     it, or any mixture. Keys are compared with regard to case.
//   - A path goes through arrays, at its end too. A test holds if it holds for any
//     of the values; those of a key that occurs twice all count.
//   - String tests see numbers and booleans as their JSON text, and an object as
//     the JSON text that the message has for it.
//   - Names that begin with tocsin. are the envelope's (tocsin.device,
//     tocsin.outcome, ...); a message cannot set them. Empty ones are absent.
//   - Of a message that stops being JSON at some point, the fields before that
//     point are seen.
//
// # Values
//
//   - Strings are compared without regard to case, by Unicode's simple folding,
//     unless cased; regular expressions (RE2, searched for anywhere) with regard
//     to case unless i. Escapes and wildcards are as in pySigma.
//   - null: the field is absent, or a value is null. The empty string: a value is
//     the empty string. A lone *: there is a value that is not null, the empty
//     string too. exists: the key is there, whatever its value. An empty array is
//     there, and neither null nor a value.
//   - A number in a rule equals a JSON number of the same value (1, 1.0) and a
//     string that is its plain decimal text. lt, lte, gt and gte read decimal
//     numbers in strings too.
//   - neq negates its item: none of the values occurs. So it holds where the field
//     is absent.
//   - minute to year take the part as the timestamp writes it, without time zones
//     (week: ISO 8601); gt, lt and so on may follow. Numbers are Unix times, in UTC.
//   - fieldref compares the two fields' values, each with each, and does not hold
//     if one field is absent. contains, startswith, endswith and cased apply to it.
//   - windash: any of five dashes in place of - or / before a word.
//   - expand: the values of a placeholder are Sigma strings. Without a value the
//     rule is left out.
//
// # Keywords
//
// A keyword is looked for anywhere in the message's text. If that is JSON, its
// escapes are first replaced by what they stand for: C:\Windows is found in
// "C:\\Windows".
//
// # Filters
//
// A filter adds its condition to the rules that it names (any: all that its
// logsource covers): the rule becomes (rule) and (filter condition), as in
// pySigma. An exclusion therefore says condition: not selection. Filters do not
// apply to correlations.
//
// # Correlations
//
// Rules are referred to by id or name. An alias maps a name to a field for each
// rule; the condition's field may be one. A correlation over a correlation sees
// the inner one's group-by as fields. gte: k with type temporal asks for k of the
// rules. What the window semantics are is the correlator's to say; a rule's own
// settings are its attributes tocsin.suppress, tocsin.realert (episode or each) and
// tocsin.evidence.
//
// # What it costs
//
// One pass over a message picks out the fields that any rule of its log source
// reads. Equal tests of different rules are one. A rule is evaluated only if a
// text that it needs was found (or if it needs none); which of its texts is the
// rarest is learned from samples of the events. The chosen texts of all rules are
// found in one scan of each field, and the rest is tested when a rule asks.
// Regular expressions run only behind texts that they require. An event that
// matches nothing allocates nothing.
package rules
