//! Lists: which items of two are the same one, and whether their order counts.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::side::Side;
use super::walk::{At, Walk};

/// By what an item is known, in this order of preference. All items of a list have the same.
const NAMES: [&str; 3] = ["name", "address", "upstream"];

/// Lists without names in which order means nothing. In all others it is taken to mean something.
const SETS: [&str; 18] = [
    "allow",
    "clients",
    "deny",
    "disable",
    "groups",
    "headers",
    "hosts",
    "ignore",
    "keys",
    "listeners",
    "methods",
    "names",
    "on",
    "patterns",
    "status",
    "subjects",
    "trusted",
    "trusted_proxies",
];

impl Walk {
    pub(super) fn lists(&mut self, at: &At, before: Side<'_>, after: Side<'_>) {
        let (old, new) = (before.items(), after.items());
        if let Some((before, after)) = names(at, &old).zip(names(at, &new)) {
            self.named(at, &old, &new, [&before, &after]);
        } else if SETS.contains(&at.key.as_str()) && !at.in_options {
            self.sets(at, old, new);
        } else if old.iter().chain(&new).any(|item| item.shown.is_object()) {
            self.rows(at, &old, &new);
        } else if old.len() != new.len() || !self.are_same(before, after) {
            self.changed(at, before, after);
        }
    }

    fn named(&mut self, at: &At, old: &[Side<'_>], new: &[Side<'_>], names: [&[String]; 2]) {
        let places = |names: &[String]| -> HashMap<String, usize> {
            names.iter().cloned().enumerate().map(|(place, name)| (name, place)).collect()
        };
        let [was, is] = names.map(places);
        let order_counts = at.in_options || at.key == "plugins";
        let stay = match order_counts {
            true => longest_in_order(names[0].iter().filter_map(|name| is.get(name).copied())),
            false => (0..new.len()).collect(),
        };
        for (place, (name, after)) in names[1].iter().zip(new).enumerate() {
            let at = at.item(name);
            let Some(before) = was.get(name) else {
                self.added(&at, *after);
                continue;
            };
            if stay.binary_search(&place).is_err() {
                self.moved(&at, *before, place);
            }
            self.values(&at, old[*before], *after);
        }
        for (name, before) in names[0].iter().zip(old).filter(|(name, _)| !is.contains_key(*name)) {
            self.removed(&at.item(name), *before);
        }
    }

    fn sets(&mut self, at: &At, old: Vec<Side<'_>>, new: Vec<Side<'_>>) {
        let mut left: HashMap<String, Vec<Side<'_>>> = HashMap::new();
        for item in old {
            left.entry(item.shown.to_string()).or_default().push(item);
        }
        for item in new {
            let alike = left.entry(item.shown.to_string()).or_default();
            match alike.iter().position(|other| self.are_same(*other, item)) {
                Some(place) => drop(alike.swap_remove(place)),
                None => self.added(at, item),
            }
        }
        let mut gone: Vec<Side<'_>> = left.into_values().flatten().collect();
        gone.sort_by_key(|item| item.shown.to_string());
        gone.into_iter().for_each(|item| self.removed(at, item));
    }

    /// Items without names: what is the same at both ends is, and what is between is compared one by one.
    fn rows(&mut self, at: &At, old: &[Side<'_>], new: &[Side<'_>]) {
        let mut same = |old: &Side<'_>, new: &Side<'_>| self.are_same(*old, *new);
        let start = old.iter().zip(new).take_while(|(old, new)| same(old, new)).count();
        let (old, new) = (&old[start..], &new[start..]);
        let ends = old.iter().rev().zip(new.iter().rev());
        let end = ends.take_while(|(old, new)| same(old, new)).count();
        let (old, new) = (&old[..old.len() - end], &new[..new.len() - end]);
        let both = old.len().min(new.len());
        for (place, (old, new)) in old.iter().zip(new).enumerate() {
            self.values(&at.item(start + place), *old, *new);
        }
        for (place, item) in new.iter().enumerate().skip(both) {
            self.added(&at.item(start + place), *item);
        }
        for (place, item) in old.iter().enumerate().skip(both) {
            self.removed(&at.item(start + place), *item);
        }
    }
}

/// The names of all items, if each has one of its own.
fn names(at: &At, items: &[Side<'_>]) -> Option<Vec<String>> {
    let by = |key: &str| -> Option<Vec<String>> {
        let text = |item: &Side<'_>| item.shown.get(key)?.as_str().map(str::to_owned);
        items.iter().map(text).collect()
    };
    let names = if at.key == "plugins" && !at.in_options {
        // A plugin's name is its kind unless set.
        let name = |item: &Side<'_>| {
            let name = item.shown.get("name").filter(|name| !name.is_null());
            name.or(item.shown.get("kind")).and_then(Json::as_str).map(str::to_owned)
        };
        items.iter().map(name).collect()
    } else {
        NAMES.into_iter().find_map(by)
    }?;
    let mut sorted: Vec<&String> = names.iter().collect();
    sorted.sort_unstable();
    let has_repeats = sorted.windows(2).any(|two| two[0] == two[1]);
    (!has_repeats).then_some(names)
}

/// The most places that stand in their order already; the others have moved.
fn longest_in_order(places: impl Iterator<Item = usize>) -> Vec<usize> {
    // For each length the run that ends lowest, as links back to what each place follows.
    let places: Vec<usize> = places.collect();
    let mut ends: Vec<usize> = Vec::new();
    let mut follows: Vec<Option<usize>> = Vec::with_capacity(places.len());
    for (index, place) in places.iter().enumerate() {
        let length = ends.partition_point(|end| places[*end] < *place);
        follows.push(length.checked_sub(1).map(|before| ends[before]));
        match ends.get_mut(length) {
            Some(end) => *end = index,
            None => ends.push(index),
        }
    }
    let last = ends.last().copied();
    let mut run: Vec<usize> =
        std::iter::successors(last, |index| follows[*index]).map(|index| places[index]).collect();
    run.reverse();
    run
}
