//! The pods.

use std::collections::BTreeMap;

use connector_config::annotation;
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{
            Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction,
            LocalObjectReference, ObjectFieldSelector, PodSecurityContext, PodSpec,
            PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile, SecurityContext,
            TopologySpreadConstraint,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};

use super::{Defaults, Owner, volumes};
use crate::{
    api::{self, Validated},
    mount,
    refs::SecretDigest,
};

/// Name of the only container.
pub(crate) const CONTAINER: &str = "connector";
/// Port of probes and metrics.
const PORT: i32 = 8080;
/// The user of the image; any would do that is not root and owns nothing.
const USER: i64 = 65_532;
/// Answering what still arrives (up to 35 s) and handing over partitions (up to 10 s), with a margin.
const GRACE_SECONDS: i64 = 60;
/// Old `ReplicaSet`s are of no use without their settings, so few are kept.
const REVISIONS: i32 = 2;

pub(super) fn render(
    owner: &Owner,
    spec: &Validated,
    secrets: &SecretDigest,
    settings: &str,
    defaults: &Defaults,
    restart: Option<&str>,
) -> Deployment {
    let digest = settings.rsplit('-').next().unwrap_or(settings);
    let mut annotations = BTreeMap::from([
        (annotation::SETTINGS_DIGEST.to_owned(), digest.to_owned()),
        (
            annotation::SECRET_DIGEST.to_owned(),
            secrets.as_str().to_owned(),
        ),
    ]);
    // The user's cannot be ours: the spec is validated.
    annotations.extend(spec.pod.annotations.clone());
    annotations.extend(restart.map(|word| (annotation::RESTART.to_owned(), word.to_owned())));
    let mut labels = spec.pod.labels.clone();
    labels.extend(owner.labels());
    Deployment {
        metadata: owner.metadata(owner.child()),
        spec: Some(DeploymentSpec {
            replicas: Some(spec.replicas),
            revision_history_limit: Some(REVISIONS),
            selector: selector(owner),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                // A new pod serves before an old one goes: no request is refused during a rollout.
                rolling_update: Some(RollingUpdateDeployment {
                    max_unavailable: Some(IntOrString::Int(0)),
                    max_surge: Some(IntOrString::Int(1)),
                }),
            }),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels),
                    annotations: Some(annotations),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod(owner, spec, settings, defaults)),
            },
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

fn selector(owner: &Owner) -> LabelSelector {
    LabelSelector {
        match_labels: Some(owner.selector()),
        ..LabelSelector::default()
    }
}

fn pod(owner: &Owner, spec: &Validated, settings: &str, defaults: &Defaults) -> PodSpec {
    let api::Pod {
        image,
        image_pull_policy,
        image_pull_secrets,
        resources,
        node_selector,
        tolerations,
        affinity,
        topology_spread_constraints,
        priority_class_name,
        labels: _,
        annotations: _,
    } = &spec.pod;
    let pull_policy = image_pull_policy.unwrap_or(defaults.pull_policy);
    let (volumes, mounts) = volumes::render(spec, settings);
    PodSpec {
        service_account_name: Some(owner.child()),
        // For the Leases of members and claims.
        automount_service_account_token: Some(true),
        // No environment variable per Service: a namespace of many would make it large.
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        image_pull_secrets: (!image_pull_secrets.is_empty()).then(|| {
            image_pull_secrets
                .iter()
                .map(|secret| LocalObjectReference {
                    name: secret.name.clone(),
                })
                .collect()
        }),
        node_selector: (!node_selector.is_empty()).then(|| node_selector.clone()),
        tolerations: (!tolerations.is_empty()).then(|| tolerations.clone()),
        affinity: affinity.clone(),
        priority_class_name: priority_class_name.clone(),
        topology_spread_constraints: Some(spread(owner, topology_spread_constraints)),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            // Makes the mounted secrets readable for the group alone.
            fs_group: Some(USER),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        containers: vec![Container {
            name: CONTAINER.to_owned(),
            image: Some(image.clone().unwrap_or_else(|| defaults.image.clone())),
            image_pull_policy: Some(pull_policy.as_str().to_owned()),
            args: Some(vec!["--config".to_owned(), mount::SETTINGS.to_owned()]),
            env: Some(environment(spec)),
            ports: Some(vec![ContainerPort {
                name: Some("http".to_owned()),
                container_port: PORT,
                protocol: Some("TCP".to_owned()),
                ..ContainerPort::default()
            }]),
            resources: Some(requirements(resources.as_ref())),
            // A process that has not opened its port after 60 s will not.
            startup_probe: Some(probe("/livez", 2, 30)),
            // Depends on nothing outside; three misses in 30 s mean that the process hangs.
            liveness_probe: Some(probe("/livez", 10, 3)),
            // Paces rollouts and scaling, so it is asked often; two misses make a stumble no outage.
            readiness_probe: Some(probe("/readyz", 2, 2)),
            security_context: Some(SecurityContext {
                allow_privilege_escalation: Some(false),
                capabilities: Some(Capabilities {
                    drop: Some(vec!["ALL".to_owned()]),
                    ..Capabilities::default()
                }),
                read_only_root_filesystem: Some(true),
                ..SecurityContext::default()
            }),
            volume_mounts: Some(mounts),
            ..Container::default()
        }],
        volumes: Some(volumes),
        ..PodSpec::default()
    }
}

fn environment(spec: &Validated) -> Vec<EnvVar> {
    let field = |name: &str, path: &str| EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: path.to_owned(),
                // Written out because the server would add it.
                api_version: Some("v1".to_owned()),
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    };
    let annotated = |name: &str| format!("metadata.annotations['{name}']");
    let mut environment = vec![
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("POD_UID", "metadata.uid"),
        field("POD_TEMPLATE_HASH", "metadata.labels['pod-template-hash']"),
        field("SETTINGS_DIGEST", &annotated(annotation::SETTINGS_DIGEST)),
        field("SECRET_DIGEST", &annotated(annotation::SECRET_DIGEST)),
    ];
    if volumes::hub_ca(spec).is_some() {
        // The only way to give a certificate to Microsoft's Event Hubs SDK for Rust. Without it, the
        // program would start itself anew.
        environment.push(EnvVar {
            name: "SSL_CERT_FILE".to_owned(),
            value: Some(mount::HUB_CA.to_owned()),
            ..EnvVar::default()
        });
    }
    environment
}

fn probe(path: &str, period_seconds: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("http".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        // Answered from memory: slower means that the process gets no CPU.
        timeout_seconds: Some(2),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

/// Pods of one template apart over zones and hosts where that can be, and side by side where not; or as the user says,
/// who need not say which pods.
fn spread(owner: &Owner, asked: &[TopologySpreadConstraint]) -> Vec<TopologySpreadConstraint> {
    let ours = |constraint: TopologySpreadConstraint| TopologySpreadConstraint {
        label_selector: Some(selector(owner)),
        match_label_keys: Some(vec!["pod-template-hash".to_owned()]),
        ..constraint
    };
    if !asked.is_empty() {
        let asked = asked.iter().cloned();
        return asked
            .map(|constraint| match constraint.label_selector {
                Some(_) => constraint,
                None => ours(constraint),
            })
            .collect();
    }
    ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
        .map(|key| {
            ours(TopologySpreadConstraint {
                topology_key: key.to_owned(),
                max_skew: 1,
                when_unsatisfiable: "ScheduleAnyway".to_owned(),
                ..TopologySpreadConstraint::default()
            })
        })
        .into()
}

fn requirements(resources: Option<&api::Resources>) -> ResourceRequirements {
    let Some(api::Resources { requests, limits }) = resources else {
        let amounts = |list: &[(&str, &str)]| {
            let amount =
                |&(name, text): &(&str, &str)| (name.to_owned(), Quantity(text.to_owned()));
            Some(list.iter().map(amount).collect())
        };
        return ResourceRequirements {
            // Idle use is about 1m and 15Mi; the request leaves room for one busy partition.
            requests: amounts(&[("cpu", "50m"), ("memory", "64Mi")]),
            // A partition holds at most 16Mi of unsettled events; no limit on CPU, which would throttle
            // the catch-up after an outage.
            limits: amounts(&[("memory", "512Mi")]),
            ..ResourceRequirements::default()
        };
    };
    let amounts = |map: &BTreeMap<String, api::Quantity>| {
        (!map.is_empty()).then(|| {
            map.iter()
                .map(|(name, amount)| (name.clone(), amount.to_kubernetes()))
                .collect()
        })
    };
    ResourceRequirements {
        requests: amounts(requests),
        limits: amounts(limits),
        ..ResourceRequirements::default()
    }
}
