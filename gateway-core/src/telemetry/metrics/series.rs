//! Series of one configured name: made at first use, found without a lookup, gone with the name.

use prometheus::core::{MetricVec, MetricVecBuilder};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A configured name, and whether its series may still be made.
pub(super) struct Name {
    text: Box<str>,
    current: Mutex<bool>,
}

impl Name {
    pub(super) fn new(text: &str) -> Arc<Name> {
        Arc::new(Name { text: text.into(), current: Mutex::new(true) })
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// From now on no series of this name is made through its old handles; then removes those made.
    pub(super) fn retire(&self, remove: impl FnOnce()) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        *current = false;
        remove();
    }
}

/// A family of the metrics library, of any kind.
pub(super) trait Family: Clone {
    type Metric;
    fn make(&self, values: &[&str]) -> Option<Self::Metric>;
    fn remove(&self, values: &[&str]);
}

impl<B: MetricVecBuilder> Family for MetricVec<B> {
    type Metric = B::M;

    fn make(&self, values: &[&str]) -> Option<B::M> {
        self.get_metric_with_label_values(values).ok()
    }

    fn remove(&self, values: &[&str]) {
        let _ = self.remove_label_values(values);
    }
}

/// The series of one family that carry one name: one place for each value of its other labels.
pub(super) struct Series<F: Family, const N: usize> {
    family: F,
    name: Arc<Name>,
    labels: fn(usize) -> Vec<&'static str>,
    places: [OnceLock<Option<F::Metric>>; N],
}

impl<F: Family, const N: usize> Series<F, N> {
    /// `labels` gives the values after the name for each place.
    pub(super) fn new(
        family: &F,
        name: &Arc<Name>,
        labels: fn(usize) -> Vec<&'static str>,
    ) -> Series<F, N> {
        let (family, name) = (family.clone(), name.clone());
        Series { family, name, labels, places: [const { OnceLock::new() }; N] }
    }

    /// The series at a place; none if the name was removed before the first use.
    #[inline]
    pub(super) fn at(&self, place: usize) -> Option<&F::Metric> {
        let series = self.places.get(place)?;
        series.get_or_init(|| self.make(place)).as_ref()
    }

    /// Removes all series made so far; called by [`Name::retire`].
    pub(super) fn remove(&self) {
        for (place, series) in self.places.iter().enumerate() {
            if let Some(Some(_)) = series.get() {
                self.family.remove(&self.values(place));
            }
        }
    }

    #[cold]
    fn make(&self, place: usize) -> Option<F::Metric> {
        let current = self.name.current.lock().unwrap_or_else(PoisonError::into_inner);
        if *current { self.family.make(&self.values(place)) } else { None }
    }

    fn values(&self, place: usize) -> Vec<&str> {
        let mut values = vec![self.name.as_str()];
        values.extend((self.labels)(place));
        values
    }
}

/// For families whose only label is the name.
pub(super) fn no_more_labels(_: usize) -> Vec<&'static str> {
    Vec::new()
}
