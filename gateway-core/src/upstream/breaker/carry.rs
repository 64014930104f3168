//! What an upgrade hands on of breakers. Their moments are those of the machine, and need no change.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::window::KeptSlice;
use super::{Breaker, Each, HALF, Told};
use crate::carried::Carried;

/// A breaker in a moment.
#[derive(Serialize, Deserialize)]
struct Kept {
    told: Is,
    /// When it is open until, or was. None if it is closed.
    until: Option<u64>,
    half_open: bool,
    opened: u32,
    window: Vec<KeptSlice>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Is {
    Auto,
    Open,
    Closed,
}

impl Breaker {
    fn kept(&self) -> Kept {
        let until = self.until.load(Ordering::Acquire);
        Kept {
            told: match self.told() {
                Told::Auto => Is::Auto,
                Told::Open => Is::Open,
                Told::Closed => Is::Closed,
            },
            until: (until != 0 && until != HALF).then_some(until),
            half_open: until == HALF,
            opened: self.opened.load(Ordering::Acquire),
            window: self.window.kept(),
        }
    }

    fn keep(&self, kept: &Kept) {
        let told = match kept.told {
            Is::Auto => Told::Auto,
            Is::Open => Told::Open,
            Is::Closed => Told::Closed,
        };
        self.told.store(told as u8, Ordering::Release);
        self.opened.store(kept.opened, Ordering::Release);
        self.window.keep(&kept.window);
        // Probes that are under way elsewhere say nothing here: others are made.
        let until = if kept.half_open { HALF } else { kept.until.unwrap_or(0).min(HALF - 1) };
        self.until.store(until, Ordering::Release);
    }
}

impl Carried for Breaker {
    fn carry(&self) -> Vec<u8> {
        // Numbers and words always have a form.
        serde_json::to_vec(&self.kept()).unwrap_or_default()
    }

    fn take_over(&self, bytes: &[u8]) -> Result<(), String> {
        self.keep(&serde_json::from_slice(bytes).map_err(|error| error.to_string())?);
        Ok(())
    }
}

impl Carried for Each {
    fn carry(&self) -> Vec<u8> {
        let held = self.held();
        let kept: HashMap<SocketAddr, Kept> =
            held.iter().map(|(address, breaker)| (*address, breaker.kept())).collect();
        serde_json::to_vec(&kept).unwrap_or_default()
    }

    fn take_over(&self, bytes: &[u8]) -> Result<(), String> {
        let kept: HashMap<SocketAddr, Kept> =
            serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let held = kept.iter().map(|(address, kept)| {
            let breaker = self.made(*address);
            breaker.keep(kept);
            (*address, breaker)
        });
        self.hold(held.collect());
        Ok(())
    }
}
