//! QoS policies: each is asked for by itself, so that one which cannot be read holds back no other.
//!
//! While a policy is not known, its ports stay as they are: a limit is not lifted because the agent was started anew or the server
//! is busy. A server that answers that it cannot tell a policy is believed after a while: then its ports work without it.

use std::time::Instant;

use uuid::Uuid;

use super::{
    Controller, News,
    due::Kind,
    questions::{Failure, Question},
    waiting::take,
};
use crate::neutron::{messages::objects::QosPolicy, policies::Refusal};

impl Controller {
    /// What to ask about policies: first for those that have not failed, or not lately.
    pub(super) fn about_policies(&mut self, now: Instant) -> Option<Question> {
        let used = self.cloud.used_policies();
        self.due.policies.retain(|policy| used.contains(policy));
        self.due.policies.extend(self.cloud.unknown_policies());
        self.room(Kind::Policy, 1, now)?;
        let ready = self.retry.objects.ready(self.due.policies.iter().copied(), |id| (Kind::Policy, id), now);
        take(&mut self.due.policies, ready, 1).first().map(|policy| Question::Policy(*policy))
    }

    pub(super) fn read_policy(&mut self, id: Uuid, policy: Option<&QosPolicy>) {
        let left_out = self.cloud.policies.learn(id, policy);
        self.news.extend(left_out.into_iter().map(|what| News::NotUnderstood { what }));
        self.is_dirty = true;
    }

    /// A policy could not be read.
    pub(super) fn policy_failed(&mut self, policy: Uuid, failure: Failure, now: Instant) {
        let (reason, refusal) = match failure {
            Failure::Lost => {
                self.due.policies.insert(policy);
                return;
            }
            Failure::Transient(reason) => (reason, Refusal::None),
            Failure::Other(reason) => (reason, Refusal::Once),
            Failure::Unsupported(reason) => (reason, Refusal::ForGood),
        };
        self.retry.objects.failed((Kind::Policy, policy), &reason, now);
        if self.cloud.policies.failed(policy, &reason, refusal) {
            self.is_dirty = true;
            self.news.push(News::WithoutPolicy { policy, reason });
        } else {
            self.news.push(News::Failed { question: Question::Policy(policy).to_string(), reason });
        }
        self.due.policies.insert(policy);
    }
}
