//! What a report says of its own, in the languages that it is written in. What agents and programs said stays as they said it.

use muster_proto::step_kind::StepKind;

use crate::view::report::{ChangeEnd, Sight};
use crate::view::status::{Kind, NodeState, Phase, StepState};

/// The language of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    En,
    Zh,
}

impl Language {
    /// The one of this locale, as `LANG` names it: Chinese for zh_CN.UTF-8, English for all that is not Chinese.
    pub fn of_locale(locale: &str) -> Self {
        if locale.starts_with("zh") { Self::Zh } else { Self::En }
    }

    /// For HTML's `lang`.
    pub fn tag(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Zh => "zh-CN",
        }
    }

    pub(super) fn words(self) -> &'static Words {
        match self {
            Self::En => &ENGLISH,
            Self::Zh => &CHINESE,
        }
    }

    fn of(self, english: &'static str, chinese: &'static str) -> &'static str {
        match self {
            Self::En => english,
            Self::Zh => chinese,
        }
    }

    pub(super) fn kind(self, kind: Kind) -> &'static str {
        match kind {
            Kind::None => self.of("run", "运行"),
            Kind::Bootstrap => self.of("making the cluster", "搭建集群"),
            Kind::Reset => self.of("reset", "重置"),
            Kind::Remove => self.of("removal of nodes", "移除节点"),
        }
    }

    pub(super) fn phase(self, phase: Phase) -> &'static str {
        match phase {
            Phase::None => self.of("not begun", "未开始"),
            Phase::Running => self.of("still running when this was read", "读取记录时仍在运行"),
            Phase::Done => self.of("done", "成功"),
            Phase::Failed => self.of("failed", "失败"),
            Phase::Interrupted => self.of("interrupted", "中断"),
        }
    }

    pub(super) fn step_state(self, state: StepState) -> &'static str {
        match state {
            StepState::Pending => self.of("not begun", "未开始"),
            StepState::Running => self.of("running", "运行中"),
            StepState::Changing => self.of("changing", "更改中"),
            StepState::Waiting => self.of("waiting", "等待中"),
            StepState::Done => self.of("done", "完成"),
            StepState::Blocked => self.of("blocked", "受阻"),
            StepState::Failed => self.of("failed", "失败"),
        }
    }

    pub(super) fn node_state(self, state: NodeState) -> &'static str {
        match state {
            NodeState::Pending => self.of("not begun", "未开始"),
            NodeState::Running => self.of("running", "运行中"),
            NodeState::Done => self.of("done", "完成"),
            NodeState::Failed => self.of("failed", "失败"),
            NodeState::Stopped => self.of("stopped", "已停止"),
        }
    }

    pub(super) fn change_end(self, end: ChangeEnd) -> &'static str {
        match end {
            ChangeEnd::Made => self.of("made", "已完成"),
            ChangeEnd::NotMade => self.of("NOT made", "未完成"),
            ChangeEnd::Unknown => self.of("its end is not known", "结果未知"),
            ChangeEnd::Open => self.of("under way", "进行中"),
        }
    }

    pub(super) fn sight(self, what: Sight) -> &'static str {
        match what {
            Sight::PagesAnswered => self.of(
                "every nginx of the test answered this node over HTTP, each with its own pod's name as the page",
                "测试中的每个 nginx 都通过 HTTP 应答了本节点，页面内容为各自的 Pod 名称",
            ),
            Sight::NodesReady => self.of("saw every node Ready", "看到所有节点均为 Ready"),
            Sight::AddonsRun => self.of("saw kube-proxy and CoreDNS run", "看到 kube-proxy 与 CoreDNS 正常运行"),
        }
    }

    /// What a kind of step is for; its word where this version does not know it.
    pub(super) fn step(self, word: &str) -> String {
        word.parse().map(|kind| self.of_kind(kind).to_owned()).unwrap_or_else(|_| word.to_owned())
    }

    fn of_kind(self, kind: StepKind) -> &'static str {
        let (english, chinese) = match kind {
            StepKind::Hostname => ("Set the host name", "设置主机名"),
            StepKind::Hosts => {
                ("Let the nodes know each other's names (/etc/hosts)", "配置节点名称解析（/etc/hosts）")
            }
            StepKind::Swap => ("Turn off swap", "关闭交换分区"),
            StepKind::Firewall => ("Clear the firewall's way", "处理防火墙"),
            StepKind::Kernel => ("Load kernel modules, set sysctls", "加载内核模块并设置内核参数"),
            StepKind::Packages => ("Look whether the packages are there", "检查软件包"),
            StepKind::Runtime => ("Set up the container runtime", "配置容器运行时"),
            StepKind::Images => ("Look whether the images are there", "检查镜像"),
            StepKind::KubeadmInit => {
                ("Make the control plane (kubeadm init)", "初始化控制平面（kubeadm init）")
            }
            StepKind::JoinTicket => ("Issue a token for joining", "签发加入令牌"),
            StepKind::Kubeconfig => ("Let a user use kubectl", "为用户配置 kubectl"),
            StepKind::PodNetwork => ("Install the pod network", "安装 Pod 网络"),
            StepKind::Untaint => ("Let pods run on the control plane", "允许控制平面运行 Pod"),
            StepKind::KubeadmJoin => ("Join the cluster (kubeadm join)", "加入集群（kubeadm join）"),
            StepKind::NodesReady => ("Wait until all nodes are Ready", "等待所有节点就绪"),
            StepKind::RevokeTickets => ("Take the joining tokens back", "撤销加入令牌"),
            StepKind::SmokeTest => ("Run nginx on every node", "在每个节点上运行 nginx"),
            StepKind::SmokeAnswer => ("Ask every nginx for its page", "访问每个 nginx 页面"),
            StepKind::SmokeCleanup => ("Take the test's pods away", "清理测试 Pod"),
            StepKind::KubeadmReset => ("Take the node out (kubeadm reset)", "重置节点（kubeadm reset）"),
            StepKind::NetworkLeftovers => ("Clear what the pod network left", "清理网络残留"),
            StepKind::Restore => ("Put back what stood before", "恢复原有配置"),
            StepKind::DrainNode => ("Move the pods off the node", "驱逐节点上的 Pod"),
            StepKind::ForgetNode => ("Take the node off the cluster's list", "从集群中删除节点"),
            StepKind::CoordinatorPort => ("Open the coordinator's port", "开放协调器端口"),
            StepKind::Kubelet => ("Set up the kubelet", "配置 kubelet"),
            StepKind::KubeletIdentity => ("Let the kubelet take up its certificate", "让 kubelet 启用证书"),
            StepKind::NodeNetwork => ("Wait for the node's network", "等待节点网络就绪"),
            StepKind::Addons => ("Look after CoreDNS and kube-proxy", "检查 CoreDNS 与 kube-proxy"),
        };
        self.of(english, chinese)
    }
}

macro_rules! words {
    ($($name:ident: $english:literal, $chinese:literal;)*) => {
        pub(super) struct Words { $(pub(super) $name: &'static str),* }
        static ENGLISH: Words = Words { $($name: $english),* };
        static CHINESE: Words = Words { $($name: $chinese),* };
    };
}

words! {
    title: "Lab report", "实验报告";
    subtitle: "A Kubernetes cluster made with kubeadm by Muster", "使用 Muster 与 kubeadm 搭建 Kubernetes 集群";
    colon: ": ", "：";
    comma: ", ", "、";
    open: " (", "（";
    close: ")", "）";
    made: "This report was made", "报告生成时间";
    by: "by", "生成程序";
    damage: "The journal is not whole, so something is missing below", "日志不完整，以下内容可能有缺失";
    cluster: "Cluster", "集群";
    run: "Run", "运行编号";
    began: "Began", "开始时间";
    ended: "Ended", "结束时间";
    took: "Took", "用时";
    result: "Result", "结果";
    aim: "Aim", "实验目的";
    aim_bootstrap: "Make a Kubernetes cluster as the cluster file below asks for it, and prove with nginx on every node that its pods reach each other.",
        "按照下面的集群文件搭建 Kubernetes 集群，并用每个节点上的 nginx 验证 Pod 之间互通。";
    aim_reset: "Undo a Kubernetes cluster and put the machines back as they were.", "撤销 Kubernetes 集群，恢复机器原有状态。";
    aim_remove: "Take nodes out of a Kubernetes cluster.", "将节点移出 Kubernetes 集群。";
    cluster_file: "Cluster file", "集群文件";
    environment: "Environment", "实验环境";
    hosts_not_kept: "What the machines were was not kept with this run.", "本次运行未保存主机信息。";
    node: "Node", "节点";
    address: "Address", "地址";
    system: "System", "操作系统";
    kernel: "Kernel", "内核";
    processors: "CPUs", "处理器";
    memory: "Memory", "内存";
    version: "Kubernetes", "Kubernetes 版本";
    endpoint: "API server", "API 服务器";
    pods_range: "Pods' addresses", "Pod 网段";
    services_range: "Services' addresses", "Service 网段";
    timeline: "Timeline", "时间线";
    timeline_about: "What ran where, and what waited for what: a line leads from the step that was waited for to the one that began then.",
        "各节点上执行的步骤及其先后依赖：连线从被等待的步骤指向随后开始的步骤。";
    legend_changed: "changed something", "有更改";
    legend_looked: "looked", "仅检查";
    legend_waited: "waited", "等待";
    legend_failed: "failed", "失败";
    others: "further steps", "其他步骤";
    steps: "Steps", "实验步骤";
    unchanged: "found nothing to change", "无需更改";
    one_step: "step", "个步骤";
    many_steps: "steps", "个步骤";
    after: "after", "前置步骤";
    attempt: "attempt", "尝试次数";
    waited: "waited", "等待";
    noticed: "noticed meanwhile", "期间发现";
    left: "left as it is", "保持原样";
    exit_code: "exit code", "退出码";
    output: "Output", "输出";
    cut: "bytes left out of its middle", "字节（中间部分）已省略";
    content: "what was written", "写入内容";
    not_told: "the content is not told here (not every user of that machine may read the file); that node's own journal holds it",
        "此处不显示内容（并非该机器的所有用户都可读取此文件）；该节点自己的日志中有记录";
    troubles: "Failures and what mended them", "故障与处理";
    no_troubles: "Nothing failed.", "没有发生故障。";
    cause: "Cause", "原因";
    evidence: "Seen", "现象";
    remedy: "To do", "处理方法";
    mended: "Mended", "已解决";
    mended_by_muster: "the step was done later, after these changes", "该步骤随后完成，所作更改";
    mended_by_hand: "found to hold later without a change by Muster: somebody or something else mended it", "随后检查时已满足，Muster 未作更改：由他人或其他程序修复";
    in_run: "in run", "所在运行";
    not_mended: "Not mended as far as this journal tells.", "据本日志尚未解决。";
    outcome: "Result", "实验结果";
    state: "State", "状态";
    steps_done: "Steps done", "完成步骤";
    changes: "Changes", "更改数";
    answers: "What the nodes saw at the end", "节点最终验证";
    no_answers: "The journal holds no answers of pages for this run.", "本次运行的日志中没有页面访问记录。";
    times: "All times are UTC.", "所有时间均为 UTC。";
    contents: "Contents", "目录";
    no_end: "no end recorded", "未记录结束";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chinese_locale_gets_chinese_and_every_other_english() {
        for (locale, language) in
            [("zh_CN.UTF-8", Language::Zh), ("zh", Language::Zh), ("de_DE", Language::En), ("", Language::En)]
        {
            assert_eq!(Language::of_locale(locale), language, "{locale}");
        }
    }

    #[test]
    fn every_kind_of_step_has_a_name_of_its_own_in_both_languages() {
        for language in [Language::En, Language::Zh] {
            let names: std::collections::BTreeSet<_> =
                StepKind::ALL.iter().map(|kind| language.step(kind.word())).collect();
            assert_eq!(names.len(), StepKind::ALL.len());
        }
        assert_eq!(Language::Zh.step("of-tomorrow"), "of-tomorrow");
    }
}
