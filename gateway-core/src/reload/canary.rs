//! A new config that is tried on a share of requests before it takes all of them.

use std::sync::{Arc, PoisonError};
use std::time::{Instant, SystemTime};

use super::{How, InForce, LastReload, ReloadError, Reloaded, Reloader};
use crate::config::{CanaryConfig, Loaded};
use crate::snapshot::{Canary, Verdict};
use crate::telemetry::ReloadOutcome;

/// A config on trial.
pub(crate) struct Trial {
    loaded: Loaded,
    canary: Arc<Canary>,
}

impl Reloader {
    /// How a config that was just read is to be tried, if it is.
    pub(super) fn tried_as(&self, how: &How, loaded: &Loaded) -> Option<CanaryConfig> {
        let in_force = self.snapshots.load();
        // What reads the same may differ in the contents of files: whoever asks for it has it tried.
        let changes = loaded.digest != in_force.revision.digest;
        let configured = || in_force.config.reload.canary.clone();
        match how {
            How::AtOnce => None,
            How::AsConfigured => configured().filter(|_| changes),
            How::Tried { share, time } => {
                let config = configured().unwrap_or_default();
                let (share, time) = (share.unwrap_or(config.share), time.unwrap_or(config.time));
                Some(CanaryConfig { share, time, ..config })
            }
        }
    }

    /// Puts a config on trial. Everything is tried that a reload tries.
    pub(super) fn put_on_trial(
        &self,
        loaded: Loaded,
        config: CanaryConfig,
    ) -> Result<Reloaded, ReloadError> {
        let in_force = self.snapshots.load();
        let built = self.build(&loaded, self.builder.next(), true)?;
        self.supersede();
        // Bound once to see that they can be; they are opened when it takes all requests.
        drop(built.prepared);
        let snapshot = Arc::new(built.snapshot);
        let concealed = [&*in_force.concealed, &*snapshot.concealed].concat();
        // Nothing that the one on trial would hide is shown by the log of the one in force.
        match self.telemetry.prepare(&in_force.config, &concealed) {
            Ok(log) => self.telemetry.install(log),
            Err(error) => return Err(ReloadError::Busy(format!("the access log: {error}"))),
        }
        snapshot.tasks.start(&self.runtime);
        snapshot.upstreams().iter().for_each(|upstream| upstream.start(&self.runtime));
        let canary = Arc::new(Canary::new(snapshot.clone(), config.clone()));
        let revision = snapshot.revision.clone();
        // Whatever becomes of it, no other has its number.
        self.builder.follows(revision.number);
        self.builder.metrics.canary_in_use(Some((revision.number, &revision.digest)));
        tracing::info!(
            revision = revision.number,
            digest = revision.digest,
            share = %config.share,
            time = %config.time,
            "a config is tried on a share of requests"
        );
        self.snapshots.try_out(Some(canary.clone()));
        *self.trial() = Some(Trial { loaded, canary });
        Ok(Reloaded { revision, is_tried: true })
    }

    /// Ends a trial that has come to an end.
    pub(crate) fn judge(&self) {
        let now = Instant::now();
        let verdict = self
            .trial()
            .as_ref()
            .and_then(|trial| Some((trial.canary.clone(), trial.canary.verdict(now)?)));
        let Some((judged, verdict)) = verdict else { return };
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // It may have ended otherwise meanwhile.
        let is_it = |trial: &mut Trial| Arc::ptr_eq(&trial.canary, &judged);
        let Some(trial) = self.trial().take_if(is_it) else { return };
        match verdict {
            Verdict::Discard(why) => self.discard(trial, why),
            Verdict::Accept { enough } => {
                if !enough {
                    tracing::warn!(
                        "there were too few requests to tell whether the config does worse"
                    );
                }
                // How it went is in the log.
                let _ = self.accept(trial, Some(enough));
            }
        }
    }

    /// Ends the trial that is under way, as somebody says: it takes all requests, or none.
    ///
    /// # Errors
    /// There is none, or it cannot be in force any more.
    pub(crate) fn end_trial(&self, accept: bool) -> Result<(), ReloadError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let trial = self.trial().take();
        let trial = trial.ok_or_else(|| ReloadError::Busy("no config is on trial".to_owned()))?;
        if accept {
            return self.accept(trial, None);
        }
        self.discard(trial, "somebody has said so".to_owned());
        Ok(())
    }

    /// Ends the trial that is under way, if one is, because something else is about to be in force or on trial.
    pub(super) fn supersede(&self) {
        let trial = self.trial().take();
        if let Some(trial) = trial {
            self.discard(trial, "another config came before it was judged".to_owned());
        }
    }

    /// What is known of the trial that is under way.
    pub(crate) fn on_trial(&self) -> Option<serde_json::Value> {
        self.trial().as_ref().map(|trial| trial.canary.told())
    }

    fn accept(&self, trial: Trial, enough: Option<bool>) -> Result<(), ReloadError> {
        let Trial { loaded, canary } = trial;
        self.snapshots.try_out(None);
        let outcome = self.replace(&loaded, canary.snapshot.revision.number);
        match &outcome {
            Ok(_) => {
                self.builder.metrics.canary_in_use(None);
                self.builder.keep(&loaded);
            }
            Err(_) => self.forget_trial(),
        }
        self.tell(&outcome, InForce::default());
        if let Some(last) = &mut *self.last.lock().unwrap_or_else(PoisonError::into_inner) {
            last.enough_requests = enough;
        }
        outcome.map(drop)
    }

    /// Leaves nothing of a trial behind.
    fn forget_trial(&self) {
        let in_force = self.snapshots.load();
        self.builder.metrics.canary_in_use(None);
        self.builder.retain(&in_force);
        if let Ok(log) = self.telemetry.prepare(&in_force.config, &in_force.concealed) {
            self.telemetry.install(log);
        }
    }

    fn discard(&self, trial: Trial, why: String) {
        self.snapshots.try_out(None);
        let revision = &trial.canary.snapshot.revision;
        let in_force = self.snapshots.load();
        self.forget_trial();
        self.builder.metrics.reloaded(ReloadOutcome::Discarded, SystemTime::now());
        tracing::error!(revision = revision.number, why, "the config on trial is discarded");
        let status =
            format!("{}; revision {} was discarded: {why}", in_force.revision, revision.number);
        self.notify.says(&status);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.as_ref().map(LastReload::in_force).unwrap_or_default();
        let discarded = Some(why);
        *last = Some(LastReload { discarded, ..LastReload::now(false, Vec::new(), before) });
    }

    fn trial(&self) -> std::sync::MutexGuard<'_, Option<Trial>> {
        self.trial.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
