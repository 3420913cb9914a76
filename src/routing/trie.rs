//! The wildcard filters of a shard: a trie by levels with compressed paths.
//!
//! Owns the nodes, and the subscribers that hang on them. A node's label is one level or more; two children of a node
//! never begin with the same level; a node without subscribers has two children or more (the root excepted). So there
//! are fewer than two nodes a filter, however long filters are. Children that begin with a literal level stand in one
//! table for all nodes, by parent and level, so that a node may have a million of them; `+` and `#` stand in the node.
//!
//! A node keeps the xor of its children's indices: when one child is left, that is its index.
//!
//! # What a match costs
//! A topic visits a node at most once. At each node that it passes it looks up one literal child and follows `+`, so `k`
//! levels of filters in which each level occurs both as itself and as `+` cost up to 2ᵏ visits, and no more than there are
//! nodes: who wants to make matching slow has to hold the filters that it then visits.

use ahash::RandomState;
use smallvec::SmallVec;

use super::{
    hash::HashKey,
    levels::{LevelMatch, common_levels, is_hidden, level_at, match_levels},
    slab::ChunkedSlab,
    split_table::SplitTable,
    subscribers::{Subscriber, Subscribers},
};

/// Filters by levels, with their subscribers.
#[derive(Debug)]
pub(super) struct Trie<S: Subscriber> {
    key: HashKey,
    nodes: ChunkedSlab<Node<S>>,
    literal_children: SplitTable<u32>,
    filters: usize,
    label_bytes: usize,
}

#[derive(Debug)]
struct Node<S> {
    /// Whole levels, without a separator at either end.
    label: Box<str>,
    subscribers: Subscribers<S>,
    parent: u32,
    children: u32,
    children_xor: u32,
    plus_child: u32,
    multi_child: u32,
}

/// Which child of a node a level leads to.
enum Branch<'a> {
    Plus,
    Multi,
    Literal(&'a [u8]),
}

impl<S: Subscriber> Trie<S> {
    pub(super) fn new(key: HashKey) -> Self {
        let mut nodes = ChunkedSlab::new();
        let root = nodes.insert(Node::new("".into(), ROOT));
        debug_assert_eq!(root, ROOT);
        Self { key, nodes, literal_children: SplitTable::new(), filters: 0, label_bytes: 0 }
    }

    /// Adds a subscriber to `filter`: the filter's node, whether it is new, and the subscriber that was replaced.
    pub(super) fn insert(&mut self, hasher: &RandomState, filter: &str, subscriber: S) -> (u32, bool, Option<S>) {
        let node = self.make_node(filter);
        let subscribers = &mut self.nodes[node].subscribers;
        let is_new = subscribers.is_empty();
        let replaced = subscribers.insert(hasher, subscriber);
        self.filters += usize::from(is_new);
        (node, is_new, replaced)
    }

    /// Removes a subscriber of the filter at `node`: it, and whether the filter is gone.
    pub(super) fn remove(&mut self, hasher: &RandomState, node: u32, subscriber: &S::Key) -> Option<(S, bool)> {
        let subscribers = &mut self.nodes.at_mut(node)?.subscribers;
        let removed = subscribers.remove(hasher, subscriber)?;
        let is_gone = subscribers.is_empty();
        if is_gone {
            self.filters -= 1;
            self.prune(node);
        }
        Some((removed, is_gone))
    }

    /// The node of a filter that has subscribers.
    pub(super) fn find(&self, filter: &str) -> Option<u32> {
        let mut node = ROOT;
        let mut rest = filter;
        loop {
            node = self.child(node, rest)?;
            // Byte for byte. [v3 MQTT-3.10.4-1] [v5 MQTT-3.10.4-1]
            rest = rest.strip_prefix(&*self.nodes[node].label)?;
            if rest.is_empty() {
                return (!self.nodes[node].subscribers.is_empty()).then_some(node);
            }
            rest = rest.strip_prefix('/')?;
        }
    }

    pub(super) fn subscribers(&self, node: u32) -> Option<&Subscribers<S>> {
        Some(&self.nodes.at(node)?.subscribers)
    }

    /// Appends the filter that ends at `node`.
    pub(super) fn write_filter(&self, node: u32, text: &mut String) {
        let mut path: SmallVec<[u32; 16]> = SmallVec::new();
        let mut next = node;
        while next != ROOT {
            path.push(next);
            next = self.nodes[next].parent;
        }
        for (distance, node) in path.iter().rev().enumerate() {
            if distance > 0 {
                text.push('/');
            }
            text.push_str(&self.nodes[*node].label);
        }
    }

    /// Calls `found` with the node of each filter that matches `topic`.
    pub(super) fn matches(&self, topic: &str, found: &mut impl FnMut(u32)) {
        let hidden = is_hidden(topic);
        let topic = topic.as_bytes();
        let mut pending: SmallVec<[(u32, usize); 16]> = SmallVec::new();
        if hidden {
            // Wildcards in the first level pass the topic by. [v3 MQTT-4.7.2-1] [v5 MQTT-4.7.2-1]
            pending.extend(self.literal_child(ROOT, level_at(topic, 0).0).map(|child| (child, 0)));
        } else {
            self.visit_children(&self.nodes[ROOT], ROOT, topic, 0, &mut pending, found);
        }
        while let Some((index, at)) = pending.pop() {
            let node = &self.nodes[index];
            match match_levels(node.label.as_bytes(), topic, at) {
                LevelMatch::No => {}
                LevelMatch::Until(next) => self.visit_children(node, index, topic, next, &mut pending, found),
                LevelMatch::Multi => found(index),
                LevelMatch::All => {
                    if !node.subscribers.is_empty() {
                        found(index);
                    }
                    self.visit_multi_child(node, found);
                }
            }
        }
    }

    pub(super) const fn filters(&self) -> usize {
        self.filters
    }

    /// The bytes of nodes, labels and the table of children, without what subscribers allocate.
    pub(super) fn bytes(&self) -> usize {
        self.nodes.bytes() + self.literal_children.bytes() + self.label_bytes
    }

    #[inline]
    fn visit_children(
        &self,
        node: &Node<S>,
        index: u32,
        topic: &[u8],
        at: usize,
        pending: &mut SmallVec<[(u32, usize); 16]>,
        found: &mut impl FnMut(u32),
    ) {
        self.visit_multi_child(node, found);
        if node.plus_child != NONE {
            pending.push((node.plus_child, at));
        }
        let wildcard_children = u32::from(node.plus_child != NONE) + u32::from(node.multi_child != NONE);
        if node.children > wildcard_children
            && let Some(child) = self.literal_child(index, level_at(topic, at).0)
        {
            pending.push((child, at));
        }
    }

    /// `#` matches whatever is left, and its parent's level itself.
    #[inline]
    fn visit_multi_child(&self, node: &Node<S>, found: &mut impl FnMut(u32)) {
        // It ends a filter: below `#` there is nothing.
        if node.multi_child != NONE {
            found(node.multi_child);
        }
    }

    /// The node at which `filter` ends, made when it is not there.
    fn make_node(&mut self, filter: &str) -> u32 {
        let mut node = ROOT;
        let mut rest = filter;
        loop {
            let Some(mut child) = self.child(node, rest) else {
                let leaf = self.nodes.insert(Node::new(rest.into(), node));
                self.label_bytes += allocated(rest);
                self.attach(leaf);
                return leaf;
            };
            let label = &self.nodes[child].label;
            let common = common_levels(label.as_bytes(), rest.as_bytes()).unwrap_or(0);
            if common < label.len() {
                child = self.split(child, common);
            }
            if common == rest.len() {
                return child;
            }
            node = child;
            rest = rest.get(common + 1..).unwrap_or_default();
        }
    }

    /// Puts a node above `lower` that takes the first `upper_bytes` of its label; `lower` keeps its index and its filter.
    fn split(&mut self, lower: u32, upper_bytes: usize) -> u32 {
        let parent = self.nodes[lower].parent;
        self.detach(lower);
        let label = std::mem::take(&mut self.nodes[lower].label);
        let (upper_label, rest) = label.split_at_checked(upper_bytes).unwrap_or((&label, "/"));
        let upper = self.nodes.insert(Node::new(upper_label.into(), parent));
        self.attach(upper);
        let lower_label: Box<str> = rest.strip_prefix('/').unwrap_or(rest).into();
        self.label_bytes = self.label_bytes + allocated(upper_label) + allocated(&lower_label) - allocated(&label);
        let node = &mut self.nodes[lower];
        node.label = lower_label;
        node.parent = upper;
        self.attach(lower);
        upper
    }

    /// Removes nodes, from `node` upwards, that serve no filter any more.
    fn prune(&mut self, mut node: u32) {
        while node != ROOT && self.nodes[node].subscribers.is_empty() {
            let parent = self.nodes[node].parent;
            match self.nodes[node].children {
                0 => {
                    self.detach(node);
                    let removed = self.nodes.remove(node);
                    self.label_bytes -= removed.map_or(0, |removed| allocated(&removed.label));
                    node = parent;
                }
                1 => return self.merge_with_only_child(node),
                _ => return,
            }
        }
    }

    /// Gives the label of `upper` to its only child, which keeps its index and its filter, and removes `upper`.
    fn merge_with_only_child(&mut self, upper: u32) {
        let lower = self.nodes[upper].children_xor;
        self.detach(lower);
        self.detach(upper);
        let Some(removed) = self.nodes.remove(upper) else { return };
        let node = &mut self.nodes[lower];
        self.label_bytes -= allocated(&removed.label) + allocated(&node.label);
        node.label = [&*removed.label, "/", &*node.label].concat().into();
        node.parent = removed.parent;
        self.label_bytes += allocated(&node.label);
        self.attach(lower);
    }

    /// Makes a node with a parent and a label known to that parent.
    fn attach(&mut self, index: u32) {
        let parent = self.nodes[index].parent;
        match Branch::of(level_at(self.nodes[index].label.as_bytes(), 0).0) {
            Branch::Plus => self.nodes[parent].plus_child = index,
            Branch::Multi => self.nodes[parent].multi_child = index,
            Branch::Literal(level) => self.literal_children.insert_unique(self.key.child(parent, level), index),
        }
        let parent = &mut self.nodes[parent];
        parent.children += 1;
        parent.children_xor ^= index;
    }

    /// The opposite of [`attach`](Self::attach).
    fn detach(&mut self, index: u32) {
        let parent = self.nodes[index].parent;
        match Branch::of(level_at(self.nodes[index].label.as_bytes(), 0).0) {
            Branch::Plus => self.nodes[parent].plus_child = NONE,
            Branch::Multi => self.nodes[parent].multi_child = NONE,
            Branch::Literal(level) => {
                let removed = self.literal_children.remove(self.key.child(parent, level), |found| *found == index);
                debug_assert!(removed.is_some(), "a node stands in the table of children");
            }
        }
        let parent = &mut self.nodes[parent];
        parent.children -= 1;
        parent.children_xor ^= index;
    }

    /// The child of `node` that begins with the first level of `rest`, taken literally.
    fn child(&self, node: u32, rest: &str) -> Option<u32> {
        let present = |child: u32| (child != NONE).then_some(child);
        match Branch::of(level_at(rest.as_bytes(), 0).0) {
            Branch::Plus => present(self.nodes[node].plus_child),
            Branch::Multi => present(self.nodes[node].multi_child),
            Branch::Literal(level) => self.literal_child(node, level),
        }
    }

    #[inline]
    fn literal_child(&self, parent: u32, level: &[u8]) -> Option<u32> {
        let is_child = |index: &u32| {
            let child = &self.nodes[*index];
            let label = child.label.as_bytes();
            child.parent == parent
                && label.starts_with(level)
                && label.get(level.len()).is_none_or(|byte| *byte == b'/')
        };
        self.literal_children.find(self.key.child(parent, level), is_child).copied()
    }

    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        for (index, node) in self.nodes.iter() {
            let children = self.nodes.iter().filter(|(child, node)| *child != ROOT && node.parent == index);
            let (count, xor) = children.fold((0, 0), |(count, xor), (child, _)| (count + 1, xor ^ child));
            assert_eq!((node.children, node.children_xor), (count, xor), "node {index}");
            assert!(
                index == ROOT || !node.subscribers.is_empty() || node.children >= 2,
                "node {index} serves a filter"
            );
            if index != ROOT {
                assert_eq!(self.child(node.parent, &node.label), Some(index), "its parent finds node {index}");
            }
        }
        let labels: usize = self.nodes.iter().map(|(_, node)| allocated(&node.label)).sum();
        assert_eq!(self.label_bytes, labels);
    }
}

impl<S> Node<S> {
    fn new(label: Box<str>, parent: u32) -> Self {
        Self {
            label,
            subscribers: Subscribers::None,
            parent,
            children: 0,
            children_xor: 0,
            plus_child: NONE,
            multi_child: NONE,
        }
    }
}

impl<'a> Branch<'a> {
    #[inline]
    fn of(level: &'a [u8]) -> Self {
        match level {
            b"+" => Self::Plus,
            b"#" => Self::Multi,
            literal => Self::Literal(literal),
        }
    }
}

/// What a text takes from an allocator that deals in units of 16 bytes.
pub(super) const fn allocated(text: &str) -> usize {
    text.len().next_multiple_of(16)
}

const ROOT: u32 = 0;
const NONE: u32 = u32::MAX;
