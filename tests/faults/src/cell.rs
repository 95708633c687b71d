//! One cell of the matrix: what is under way, which fault strikes it, and where; its name.

use std::fmt;

use muster_proto::failpoint::Point;
use muster_proto::names::StepId;
use muster_proto::step_kind::StepKind;

use crate::pair::{MASTER, WORKER};
use crate::scenario::Scenario;
use crate::stand_in::memory::How;
use crate::survey::Survey;

/// One fault, struck once.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// What is under way.
    pub scenario: Scenario,
    pub kind: Kind,
    pub step: StepId,
    /// The how manieth change (or, for the coordinator, message) of the step.
    pub nth: u32,
    /// Whose words the stand-in kubeadm speaks.
    pub speaks_as_1_36: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// kill -9 of whoever reaches the point.
    Kill(Point),
    /// kill -9 of the agent so long after a program began.
    KillLater(u64),
    /// The power of the step's machine goes; what was not on the disk is lost.
    PowerLoss(Point),
    /// The agent's connection is cut.
    Cut(Point),
    /// The coordinator sends the same request again.
    Replay,
    Program(How),
    DiskFull(Place),
    /// The process is stopped for some seconds and goes on.
    Stop(Point),
    /// The person goes away with Ctrl-C, and comes back with a second command.
    Detach,
    Journal(Harm, Side),
    /// The machine's clock is so many seconds wrong, from the beginning or from the middle of a program on.
    Clock(i32, Since),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    TheBeginning,
    MidEffect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    AgentState,
    CoordinatorState,
    Target,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    Corrupt,
    Truncated,
    Newer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Agent,
    Coordinator,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.scenario != Scenario::Bootstrap {
            write!(f, "{}:", self.scenario.word())?;
        }
        write!(f, "{}:{}:{}", self.kind, self.step, self.nth)?;
        if self.speaks_as_1_36 { f.write_str(":1.36.2") } else { Ok(()) }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(point) if Point::OF_THE_AGENT.contains(point) => {
                write!(f, "kill-agent:{}", point.word())
            }
            Self::Kill(point) => write!(f, "kill-coordinator:{}", point.word()),
            Self::KillLater(ms) => write!(f, "kill-agent:{ms}ms-into-it"),
            Self::PowerLoss(point) => write!(f, "power-loss:{}", point.word()),
            Self::Cut(point) => write!(f, "cut:{}", point.word()),
            Self::Replay => f.write_str("replay"),
            Self::Program(how) => write!(
                f,
                "program:{}",
                match how {
                    How::Fails => "fails",
                    How::FailsThoughItWorked => "fails-though-it-worked",
                    How::HangsSilent => "hangs-silent",
                    How::HangsChatty => "hangs-chatty",
                }
            ),
            Self::DiskFull(place) => write!(
                f,
                "disk-full:{}",
                match place {
                    Place::AgentState => "agent-state",
                    Place::CoordinatorState => "coordinator-state",
                    Place::Target => "target",
                }
            ),
            Self::Stop(point) if Point::OF_THE_AGENT.contains(point) => {
                write!(f, "stop-agent:{}", point.word())
            }
            Self::Stop(point) => write!(f, "stop-coordinator:{}", point.word()),
            Self::Detach => f.write_str("detach"),
            Self::Clock(seconds, since) => {
                let ahead = if *seconds > 0 { "ahead" } else { "behind" };
                let since = if *since == Since::TheBeginning { "" } else { "-amid" };
                write!(f, "clock:{ahead}{since}")
            }
            Self::Journal(harm, side) => write!(
                f,
                "journal:{}-{}",
                match harm {
                    Harm::Corrupt => "corrupt",
                    Harm::Truncated => "truncated",
                    Harm::Newer => "newer",
                },
                match side {
                    Side::Agent => "agent",
                    Side::Coordinator => "coordinator",
                }
            ),
        }
    }
}

impl Cell {
    pub fn new(kind: Kind, step: &StepId, nth: u32) -> Self {
        Self { scenario: Scenario::Bootstrap, kind, step: step.clone(), nth, speaks_as_1_36: false }
    }

    /// Whether the cell is among those that run with all other tests: every step with an effect at every point of the agent,
    /// and every other kind of fault where it hurts most.
    pub fn is_of_every_test_run(&self, survey: &Survey) -> bool {
        let weightiest = survey.weightiest(&self.step);
        let kind = self.step.kind();
        let joins = kind == Some(StepKind::KubeadmJoin);
        let central = joins || kind == Some(StepKind::KubeadmInit);
        let on_worker = self.step.node() == WORKER;
        if self.scenario != Scenario::Bootstrap {
            return self.is_of_every_test_run_of_others(weightiest);
        }
        match self.kind {
            Kind::Kill(point) if Point::OF_THE_AGENT.contains(&point) => {
                // What prepares a host is the same on both.
                let told_by_worker = !on_worker && survey.is_on_both(kind) && point != Point::MidEffect;
                let repeats = self.speaks_as_1_36 && point != Point::ResultRecorded;
                self.nth == weightiest && !told_by_worker && !repeats
            }
            Kind::Kill(_) => central,
            Kind::PowerLoss(_) => central && self.nth == weightiest,
            Kind::Cut(_)
            | Kind::Program(How::Fails | How::FailsThoughItWorked)
            | Kind::Replay
            | Kind::Detach => central,
            Kind::Program(_) | Kind::Stop(_) => joins,
            Kind::DiskFull(_) => on_worker && kind == Some(StepKind::Hosts),
            Kind::Journal(_, Side::Agent) => on_worker,
            Kind::Journal(_, Side::Coordinator) => central,
            Kind::Clock(..) => joins,
            Kind::KillLater(_) => false,
        }
    }

    /// Of an undoing: an agent that dies in the middle of every kind of step, and a coordinator.
    fn is_of_every_test_run_of_others(&self, weightiest: u32) -> bool {
        let wanted = match self.scenario {
            Scenario::Reset => match self.kind {
                Kind::Kill(Point::MidEffect) => {
                    matches!(self.step.kind(), Some(StepKind::KubeadmReset | StepKind::Restore))
                }
                Kind::Kill(Point::BeforeStored) => self.step.as_str() == "m1/kubeadm-reset",
                _ => false,
            },
            Scenario::Remove => self.kind == Kind::Kill(Point::MidEffect) && self.step.node() == MASTER,
            _ => false,
        };
        let is_coordinators =
            matches!(self.kind, Kind::Kill(point) if Point::OF_THE_COORDINATOR.contains(&point));
        wanted && (self.nth == weightiest || is_coordinators)
    }

    /// Whose folder the fault is armed in.
    pub fn armed_on(&self) -> &str {
        match self.kind {
            Kind::Kill(point) | Kind::Stop(point) if Point::OF_THE_COORDINATOR.contains(&point) => MASTER,
            Kind::Replay | Kind::DiskFull(Place::CoordinatorState) | Kind::Journal(_, Side::Coordinator) => {
                MASTER
            }
            _ => self.step.node(),
        }
    }
}
