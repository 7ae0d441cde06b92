//! Tables of x_tables, the kernel's legacy firewall: from the bytes that it gives to chains, and back. Pure.
//!
//! A table is one block of entries in a row, in which chains and jumps are offsets: nothing can be put in between as it stands. As
//! `Table`, a jump is to the place of a chain in a list, to which chains are only added. Numbers have the machine's order.

use super::plan::{Family, octets};
use ipnet::IpNet;

/// Of `struct ipt_getinfo`.
pub const INFO_BYTES: usize = 84;
/// Of `struct xt_counters`: packets and bytes.
pub const COUNTERS_BYTES: usize = 16;
/// `XT_TABLE_MAXNAMELEN`.
pub const TABLE_NAME: usize = 32;
/// `XT_EXTENSION_MAXNAMELEN`.
const EXTENSION_NAME: usize = 29;
/// `XT_FUNCTION_MAXNAMELEN`.
const CHAIN_NAME: usize = 30;
/// `IFNAMSIZ`.
const INTERFACE_NAME: usize = 16;
/// What precedes the data of a match or a target: size, name and revision.
const EXTENSION: usize = 2 + EXTENSION_NAME + 1;
/// Of everything that has 64 bits in it: `XT_ALIGN`.
const ALIGNMENT: usize = 8;

/// `NF_INET_NUMHOOKS`.
const HOOKS: usize = 5;
pub const PREROUTING: usize = 0;
pub const OUTPUT: usize = 3;

/// A target without a name has a verdict: an offset to go on at, or below zero what to do.
const STANDARD: &str = "";
/// A target of this name begins a user's chain, whose name it holds; the last one ends the table.
const ERROR: &str = "ERROR";
/// `XT_RETURN`.
const RETURN: i32 = -5;
const TCP: u16 = 6;
/// `IP6T_F_PROTO`: IPv6 looks at the protocol if told so.
const LOOK_AT_PROTOCOL: u8 = 1;

/// `struct ipt_getinfo`, and what `struct ipt_replace` says about the entries that follow it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    valid_hooks: u32,
    /// Where the chain of a hook begins, and where its last entry is, the policy.
    hook_entry: [u32; HOOKS],
    underflow: [u32; HOOKS],
    pub entries: u32,
    /// In bytes.
    pub size: u32,
}

/// A table as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub info: Info,
    pub entries: Vec<u8>,
}

/// Its chains in their order. None is empty: the last entry of each takes what none of the others decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table(pub Vec<Chain>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    pub name: Name,
    pub entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    Hook(usize),
    User(Vec<u8>),
}

/// `struct ipt_entry` or `struct ip6t_entry`, a match or several, a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    bytes: Vec<u8>,
    then: Then,
}

/// Where an entry's packets go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// The target says it, wherever the entry stands.
    Target,
    /// At the next entry: a rule without a target, that counts.
    Next,
    /// In the chain at this place.
    Chain(usize),
}

/// `struct ipt_ip` or `struct ip6t_ip6`: the packets that an entry is for.
#[derive(Clone, Debug, Default)]
pub struct Packet {
    pub from: Option<IpNet>,
    pub to: Option<IpNet>,
    pub leaves_by: &'static str,
    pub tcp: bool,
}

/// A kind of match or target, and what to call it when the kernel lacks it.
#[derive(Clone, Copy, Debug)]
pub struct Extension {
    pub kind: Kind,
    pub name: &'static str,
    pub revision: u8,
    pub needs: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Match,
    Target,
}

/// `struct xt_entry_match`, as bytes.
#[derive(Debug, Default)]
pub struct Match(pub Vec<u8>);

/// `struct xt_entry_target`.
#[derive(Debug)]
pub enum Target {
    /// Back to where the chain was jumped from.
    Return,
    /// To the chain at this place.
    Jump(usize),
    Extension(Vec<u8>),
}

impl Extension {
    /// Both kinds are a size, a name, a revision, and data of their own.
    pub fn bytes(&self, data: &[u8]) -> Vec<u8> {
        let size = (EXTENSION + data.len()).next_multiple_of(ALIGNMENT);
        let name = padded(self.name.as_bytes(), EXTENSION_NAME);
        let bytes = [&(size as u16).to_ne_bytes()[..], &name, &[self.revision], data].concat();
        padded(&bytes, size)
    }
}

impl Info {
    /// Of bytes that the kernel filled.
    pub fn decode(bytes: &[u8]) -> Info {
        let number = |place: usize| number(bytes, TABLE_NAME + 4 * place).unwrap_or_default();
        Info {
            valid_hooks: number(0),
            hook_entry: std::array::from_fn(|hook| number(1 + hook)),
            underflow: std::array::from_fn(|hook| number(1 + HOOKS + hook)),
            entries: number(1 + 2 * HOOKS),
            size: number(2 + 2 * HOOKS),
        }
    }

    /// `struct ipt_replace` up to the pointer that is its end, in the place of a table of so many entries.
    pub fn replace(&self, table: &[u8], old_entries: u32) -> Vec<u8> {
        let mut bytes = padded(table, TABLE_NAME);
        let numbers = [&[self.valid_hooks, self.entries, self.size], &self.hook_entry[..], &self.underflow];
        for number in numbers.concat().into_iter().chain([old_entries]) {
            bytes.extend_from_slice(&number.to_ne_bytes());
        }
        bytes
    }

    /// Whose chain begins at this offset.
    fn hook(&self, at: usize) -> Option<usize> {
        (0..HOOKS).find(|hook| self.valid_hooks >> hook & 1 == 1 && self.hook_entry[*hook] as usize == at)
    }
}

impl Table {
    /// None if it is not as iptables makes one.
    pub fn decode(family: Family, block: &Block) -> Option<Table> {
        let rows = rows(family, &block.entries)?;
        let (mut chains, mut starts): (Vec<Chain>, Vec<usize>) = (Vec::new(), Vec::new());
        let mut of_chains = Vec::new();
        for row in &rows {
            if let Some(hook) = block.info.hook(row.at) {
                chains.push(Chain { name: Name::Hook(hook), entries: Vec::new() });
                starts.push(row.at);
            }
            if let Some(name) = row.begins() {
                chains.push(Chain { name: Name::User(name.to_vec()), entries: Vec::new() });
                starts.push(row.end());
                continue;
            }
            of_chains.push((chains.len().checked_sub(1)?, row));
        }
        // The end of the table.
        chains.pop();
        starts.pop();
        for (chain, row) in of_chains {
            let entry = Entry { bytes: row.bytes.to_vec(), then: row.then(&starts)? };
            chains.get_mut(chain)?.entries.push(entry);
        }
        chains.iter().all(|chain| !chain.entries.is_empty()).then_some(Table(chains))
    }

    pub fn encode(&self, family: Family) -> Block {
        let mut info = Info::default();
        let (mut bytes, mut starts, mut jumps) = (Vec::new(), Vec::new(), Vec::new());
        for chain in &self.0 {
            if let Name::User(name) = &chain.name {
                bytes.extend(begin(family, name));
                info.entries += 1;
            }
            let start = bytes.len();
            starts.push(start);
            let mut last = start;
            for entry in &chain.entries {
                last = bytes.len();
                bytes.extend_from_slice(&entry.bytes);
                let verdict = last + entry.target(family) + EXTENSION;
                match entry.then {
                    Then::Target => {}
                    Then::Next => set(&mut bytes, verdict, last + entry.bytes.len()),
                    Then::Chain(place) => jumps.push((verdict, place)),
                }
                info.entries += 1;
            }
            if let Name::Hook(hook) = chain.name {
                info.valid_hooks |= 1 << hook;
                (info.hook_entry[hook], info.underflow[hook]) = (start as u32, last as u32);
            }
        }
        bytes.extend(begin(family, ERROR.as_bytes()));
        info.entries += 1;
        info.size = bytes.len() as u32;
        for (verdict, place) in jumps {
            set(&mut bytes, verdict, starts[place]);
        }
        Block { info, entries: bytes }
    }
}

impl Entry {
    pub fn new(family: Family, packet: &Packet, matching: &Match, target: Target) -> Entry {
        let standard = Extension { kind: Kind::Target, name: STANDARD, revision: 0, needs: STANDARD };
        let (target, then) = match target {
            Target::Return => (standard.bytes(&RETURN.to_ne_bytes()), Then::Target),
            Target::Jump(place) => (standard.bytes(&[0; 4]), Then::Chain(place)),
            Target::Extension(bytes) => (bytes, Then::Target),
        };
        let [from, to] = [packet.from, packet.to].map(|net| addresses(family, net));
        let interface = packet.leaves_by.as_bytes();
        // The NUL at its end is compared, too.
        let compared = if interface.is_empty() { 0 } else { interface.len() + 1 };
        let mut bytes = [from.0, to.0, from.1, to.1].concat();
        for name in [&[][..], interface, &[], &vec![0xff; compared]] {
            bytes.extend(padded(name, INTERFACE_NAME));
        }
        if packet.tcp {
            bytes.extend_from_slice(&TCP.to_ne_bytes());
            match family {
                Family::V4 => {}
                // Type of service, flags.
                Family::V6 => bytes.extend_from_slice(&[0, LOOK_AT_PROTOCOL]),
            }
        }
        bytes.resize(offsets_at(family), 0);
        let target_at = head_bytes(family) + matching.0.len();
        for offset in [target_at, target_at + target.len()] {
            bytes.extend_from_slice(&(offset as u16).to_ne_bytes());
        }
        bytes.resize(head_bytes(family), 0);
        bytes.extend_from_slice(&matching.0);
        bytes.extend_from_slice(&target);
        Entry { bytes, then }
    }

    pub fn jumps_to(&self, place: usize) -> bool {
        self.then == Then::Chain(place)
    }

    fn target(&self, family: Family) -> usize {
        short(&self.bytes, offsets_at(family)).unwrap_or_default()
    }
}

/// An entry where it stands in a block, with room for what its target's name says.
struct Row<'a> {
    at: usize,
    bytes: &'a [u8],
    target: usize,
}

impl Row<'_> {
    fn end(&self) -> usize {
        self.at + self.bytes.len()
    }

    fn is_for(&self, target: &str) -> bool {
        until_nul(&self.bytes[self.target + 2..self.target + EXTENSION - 1]) == target.as_bytes()
    }

    /// The name of the user's chain that begins behind it.
    fn begins(&self) -> Option<&[u8]> {
        self.is_for(ERROR).then(|| until_nul(&self.bytes[self.target + EXTENSION..]))
    }

    /// None if it jumps to where no chain begins; these are where they do.
    fn then(&self, starts: &[usize]) -> Option<Then> {
        let verdict = number(self.bytes, self.target + EXTENSION)? as i32;
        if !self.is_for(STANDARD) || verdict < 0 {
            return Some(Then::Target);
        }
        let to = verdict as usize;
        if to == self.end() {
            return Some(Then::Next);
        }
        starts.iter().position(|start| *start == to).map(Then::Chain)
    }
}

/// None if sizes and offsets do not fit together.
fn rows(family: Family, block: &[u8]) -> Option<Vec<Row<'_>>> {
    let (mut rows, mut at) = (Vec::new(), 0);
    while at < block.len() {
        let offsets = at + offsets_at(family);
        let (target, size) = (short(block, offsets)?, short(block, offsets + 2)?);
        // A verdict, or as much of anything else.
        let fits = target >= head_bytes(family) && target + EXTENSION + 4 <= size;
        let bytes = block.get(at..at + size).filter(|_| fits)?;
        rows.push(Row { at, bytes, target });
        at += size;
    }
    Some(rows)
}

/// The entry before the first of a user's chain, and that behind the last of all.
fn begin(family: Family, name: &[u8]) -> Vec<u8> {
    let error = Extension { kind: Kind::Target, name: ERROR, revision: 0, needs: ERROR };
    let target = Target::Extension(error.bytes(&padded(name, CHAIN_NAME)));
    Entry::new(family, &Packet::default(), &Match::default(), target).bytes
}

/// Where an entry has the offset of its target and, behind it, that of the next entry.
fn offsets_at(family: Family) -> usize {
    match family {
        Family::V4 => 88,
        Family::V6 => 140,
    }
}

/// Of an entry up to its first match.
fn head_bytes(family: Family) -> usize {
    match family {
        Family::V4 => 112,
        Family::V6 => 168,
    }
}

/// Of a network its address and its mask; of none, what any address is in.
fn addresses(family: Family, net: Option<IpNet>) -> (Vec<u8>, Vec<u8>) {
    let any = match family {
        Family::V4 => vec![0; 4],
        Family::V6 => vec![0; 16],
    };
    net.map_or_else(|| (any.clone(), any.clone()), |net| (octets(net.network()), octets(net.netmask())))
}

/// Cut, or filled with zeros, to a length.
pub fn padded(bytes: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(length, 0);
    bytes
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn short(bytes: &[u8], at: usize) -> Option<usize> {
    let short = bytes.get(at..at + 2)?.try_into().ok()?;
    Some(u16::from_ne_bytes(short).into())
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn set(bytes: &mut [u8], at: usize, offset: usize) {
    bytes[at..at + 4].copy_from_slice(&(offset as u32).to_ne_bytes());
}

/// Tables as others make them.
#[cfg(test)]
pub mod testing {
    use super::*;
    use proptest::prelude::*;

    const HOOKS_OF_NAT: [usize; 4] = [PREROUTING, 1, OUTPUT, 4];

    /// The kernel's chains, with policies, and up to three of others; rules of every kind in all of them.
    pub fn table(family: Family) -> impl Strategy<Value = Table> {
        (0..4_usize).prop_flat_map(move |of_others| {
            let chains = HOOKS_OF_NAT.len() + of_others;
            prop::collection::vec(prop::collection::vec(entry(family, of_others), 0..4), chains).prop_map(
                move |chains| {
                    let named = |(place, mut entries): (usize, Vec<Entry>)| {
                        let hook = HOOKS_OF_NAT.get(place).copied();
                        let name = hook.map_or_else(|| Name::User(vec![b'A' + place as u8]), Name::Hook);
                        entries.push(new(family, Target::Return));
                        Chain { name, entries }
                    };
                    Table(chains.into_iter().enumerate().map(named).collect())
                },
            )
        })
    }

    fn entry(family: Family, of_others: usize) -> impl Strategy<Value = Entry> {
        (0..3 + of_others, any::<bool>(), any::<u32>()).prop_map(move |(target, tcp, data)| {
            let standard = Extension { kind: Kind::Target, name: STANDARD, revision: 0, needs: STANDARD };
            let other = Extension { kind: Kind::Match, name: "other", revision: 3, needs: "other" };
            let (target, then) = match target {
                0 => (Target::Return, Then::Target),
                1 => (Target::Extension(other.bytes(&data.to_ne_bytes())), Then::Target),
                2 => (Target::Extension(standard.bytes(&[0; 4])), Then::Next),
                chain => (Target::Jump(chain + 1), Then::Chain(chain + 1)),
            };
            let matching = if tcp { Match(other.bytes(&[data as u8; 5])) } else { Match::default() };
            let packet = Packet { leaves_by: if tcp { "eth0" } else { "" }, tcp, ..Packet::default() };
            Entry { then, ..Entry::new(family, &packet, &matching, target) }
        })
    }

    fn new(family: Family, target: Target) -> Entry {
        Entry::new(family, &Packet::default(), &Match::default(), target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table() -> impl Strategy<Value = (Family, Table)> {
        prop_oneof![Just(Family::V4), Just(Family::V6)]
            .prop_flat_map(|family| (Just(family), testing::table(family)))
    }

    /// Names, and where each entry's packets go on.
    fn ways(table: &Table) -> Vec<(&Name, Vec<Then>)> {
        let ways = |chain: &Chain| chain.entries.iter().map(|entry| entry.then).collect();
        table.0.iter().map(|chain| (&chain.name, ways(chain))).collect()
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_written_again((family, table) in table()) {
            let block = table.encode(family);
            let read = Table::decode(family, &block).unwrap();
            prop_assert_eq!(ways(&read), ways(&table));
            prop_assert_eq!(read.encode(family), block);
        }

        #[test]
        fn what_nobody_wrote_is_refused_or_written_again(
            (family, table) in table(),
            (at, with) in (any::<prop::sample::Index>(), any::<[u8; 2]>()),
        ) {
            let mut block = table.encode(family);
            let at = at.index(block.entries.len() - 1);
            block.entries[at..at + 2].copy_from_slice(&with);
            if let Some(table) = Table::decode(family, &block) {
                table.encode(family);
            }
        }
    }

    #[test]
    fn what_the_kernel_says_of_a_table_is_what_it_is_told_again() {
        let numbers: Vec<u8> = (1..=13_u32).flat_map(u32::to_ne_bytes).collect();
        let info = Info::decode(&[&[0; TABLE_NAME][..], &numbers].concat());
        let replace = info.replace(b"nat", 99);
        let told: Vec<_> = (0..14).map(|place| number(&replace, TABLE_NAME + 4 * place).unwrap()).collect();
        assert_eq!(told, [1, 12, 13, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 99]);
        assert_eq!(&replace[..4], b"nat\0");
    }
}
