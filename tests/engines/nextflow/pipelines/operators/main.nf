workflow {
  a = Channel.of([1, 'x'], [2, 'y'], [1, 'z'])
  b = Channel.of([1, 'one'], [2, 'two'])
  a.groupTuple().map { k, v -> "OUT: group $k ${v.sort()}" }.view()
  a.join(b, failOnDuplicate: false).toSortedList().view { "OUT: join $it" }
  a.combine(b, by: 0).toSortedList { p, q -> p.toString() <=> q.toString() }.view { "OUT: combine $it" }
  Channel.of(1..6).branch { small: it < 3; large: true }.set { sizes }
  sizes.small.toSortedList().view { "OUT: small $it" }
  sizes.large.sum().view { "OUT: large $it" }
  Channel.of(1..4).multiMap { one: it; square: it * it }.set { both }
  both.square.toSortedList().view { "OUT: squares $it" }
  Channel.of('a', 'b', 'a').unique().toSortedList().view { "OUT: unique $it" }
  Channel.of(1..5).buffer(size: 2, remainder: true).toList().view { "OUT: buffer $it" }
  Channel.of(3, 1, 2).reduce { p, q -> p + q }.view { "OUT: reduce $it" }
  Channel.of('>a\nAC\n>b\nGT\n').splitFasta(record: [id: true, seqString: true]).view { "OUT: fasta $it.id $it.seqString" }
  Channel.of('l1\nl2\nl3').splitText { it.trim() }.toList().view { "OUT: text $it" }
  Channel.of('{"k": [1, 2]}').splitJson(path: 'k').toList().view { "OUT: json $it" }
  Channel.of(1, 2).concat(Channel.of(3)).collect().view { "OUT: concat $it" }
  Channel.of(1, 2).cross(Channel.of(1, 2)) { it }.toSortedList().view { "OUT: cross $it" }
  Channel.of('a', 'b').mix(Channel.of('c')).count().view { "OUT: count $it" }
  Channel.of([1, [2, 3]]).transpose().toList().view { "OUT: transpose $it" }
  Channel.value(5).dump(tag: 'x').map { it ?: 0 }.view { "OUT: value $it" }
}
