"""What Kubernetes and KubeRay accept, as closed JSON schemas: an unknown field is an error.

KubeRay's custom resource definitions come with its operator and in no package that could be
installed here. They are, however, KubeRay's own fields around types of Kubernetes. The fields are
written down below, all that a spec of ray.io/v1 has in KubeRay 1.7.0 by its API reference
(docs/reference/api.md of ray-project/kuberay); the types are Kubernetes' own schemas, which the
package kubernetes-validate carries.
"""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

Schema = dict[str, Any]

KUBERNETES = "v1.34.0-local-strict"
"""The oldest version with all that KubeRay 1.7 is built against."""

_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
YES_NO: Schema = {"type": "boolean"}
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}


def problems(document: dict[str, Any]) -> list[str]:
    """What is wrong with a manifest; nothing for a valid one."""
    kind = f"{document.get('apiVersion')}/{document.get('kind')}"
    if kind not in _RESOURCES:
        return [f"{kind}: unknown; known: {', '.join(_RESOURCES)}"]
    validator = Draft202012Validator(_RESOURCES[kind], registry=_kubernetes())
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]


@functools.cache
def _kubernetes() -> Registry[Any]:
    """Kubernetes' types, by their names; quantities as its API server reads them."""
    folder = resources.files("kubernetes_validate") / "kubernetes-json-schema" / KUBERNETES
    contents = json.loads((folder / "_definitions.json").read_text(encoding="utf-8"))
    contents["$defs"][_QUANTITY] = {
        "type": ["string", "number"],
        "pattern": r"^[+-]?(\d+\.?\d*|\.\d+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?$",
    }
    resource: Resource[Any] = Resource.from_contents(contents)
    return resource @ Registry()


def _core(name: str) -> Schema:
    return {"$ref": f"https://kubernetes.io/api/_definitions.json#/$defs/io.k8s.{name}"}


def _record(fields: dict[str, Schema], *, required: tuple[str, ...] = ()) -> Schema:
    return {
        "type": "object",
        "properties": fields,
        "required": list(required),
        "additionalProperties": False,
    }


def _one_of(*values: str) -> Schema:
    return {"enum": list(values)}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


_POD = _core("api.core.v1.PodTemplateSpec")
_MANAGERS = _one_of("ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue")

_NETWORK_RULES: dict[str, Schema] = {
    "ingressRules": _list(_core("api.networking.v1.NetworkPolicyIngressRule")),
    "egressRules": _list(_core("api.networking.v1.NetworkPolicyEgressRule")),
}

_CREDENTIAL = _record({"value": TEXT, "valueFrom": _core("api.core.v1.EnvVarSource")})

_AUTOSCALER = _record(
    {
        "resources": _core("api.core.v1.ResourceRequirements"),
        "image": TEXT,
        "imagePullPolicy": TEXT,
        "securityContext": _core("api.core.v1.SecurityContext"),
        "idleTimeoutSeconds": WHOLE,
        "upscalingMode": _one_of("Default", "Aggressive", "Conservative"),
        "version": _one_of("v1", "v2"),
        "env": _list(_core("api.core.v1.EnvVar")),
        "envFrom": _list(_core("api.core.v1.EnvFromSource")),
        "volumeMounts": _list(_core("api.core.v1.VolumeMount")),
        "command": _list(TEXT),
        "args": _list(TEXT),
    }
)

_GCS = _record(
    {
        "backend": _one_of("redis", "rocksdb"),
        "redisUsername": _CREDENTIAL,
        "redisPassword": _CREDENTIAL,
        "externalStorageNamespace": TEXT,
        "redisAddress": TEXT,
        "storage": _record(
            {
                "claimName": TEXT,
                "size": _core("apimachinery.pkg.api.resource.Quantity"),
                "storageClassName": TEXT,
                "accessModes": _list(TEXT),
                "subPath": TEXT,
                "deletionPolicy": _one_of("DeleteWithCluster", "Retain"),
            }
        ),
    }
)

_HISTORY = _record(
    {
        "collectorOptions": _record(
            {
                "image": TEXT,
                "imagePullPolicy": TEXT,
                "resources": _core("api.core.v1.ResourceRequirements"),
                "env": _list(_core("api.core.v1.EnvVar")),
            }
        )
    }
)

_NETWORK = _record(
    {
        "mode": _one_of("DenyAll", "DenyAllIngress", "DenyAllEgress"),
        "head": _record(_NETWORK_RULES),
        "worker": _record(_NETWORK_RULES),
        "workerGroups": _list(
            _record({"groupName": TEXT, **_NETWORK_RULES}, required=("groupName",))
        ),
    }
)

_HEAD = _record(
    {
        "template": _POD,
        "headService": _core("api.core.v1.Service"),
        "enableIngress": YES_NO,
        "ingressOptions": _record(
            {
                "host": TEXT,
                "path": TEXT,
                "pathType": _one_of("Exact", "Prefix", "ImplementationSpecific"),
                "tls": _list(_core("api.networking.v1.IngressTLS")),
            }
        ),
        "resources": TEXTS,
        "labels": TEXTS,
        "rayStartParams": TEXTS,
        "serviceType": TEXT,
    },
    required=("template",),
)

_WORKERS = _record(
    {
        "suspend": YES_NO,
        "groupName": TEXT,
        "replicas": WHOLE,
        "minReplicas": WHOLE,
        "maxReplicas": WHOLE,
        "idleTimeoutSeconds": WHOLE,
        "priority": WHOLE,
        "resources": TEXTS,
        "labels": TEXTS,
        "rayStartParams": TEXTS,
        "template": _POD,
        "scaleStrategy": _record({"workersToDelete": _list(TEXT)}),
        "numOfHosts": WHOLE,
    },
    required=("groupName", "minReplicas", "maxReplicas", "template"),
)

_CLUSTER = _record(
    {
        "upgradeStrategy": _record({"type": _one_of("Recreate", "None")}),
        "authOptions": _record(
            {
                "enableK8sTokenAuth": YES_NO,
                "secretName": TEXT,
                "mode": _one_of("disabled", "token"),
            }
        ),
        "suspend": YES_NO,
        "managedBy": _MANAGERS,
        "autoscalerOptions": _AUTOSCALER,
        "headServiceAnnotations": TEXTS,
        "enableInTreeAutoscaling": YES_NO,
        "gcsFaultToleranceOptions": _GCS,
        "historyServerOptions": _HISTORY,
        "networkPolicy": _NETWORK,
        "tlsOptions": _record({"enabled": YES_NO}),
        "headGroupSpec": _HEAD,
        "rayVersion": TEXT,
        "workerGroupSpecs": _list(_WORKERS),
    },
    required=("headGroupSpec",),
)

_DELETION = _one_of("DeleteCluster", "DeleteWorkers", "DeleteSelf", "DeleteNone")

_JOB = _record(
    {
        "activeDeadlineSeconds": WHOLE,
        "backoffLimit": WHOLE,
        "rayClusterSpec": _CLUSTER,
        "submitterPodTemplate": _POD,
        "metadata": TEXTS,
        "clusterSelector": TEXTS,
        "submitterConfig": _record({"backoffLimit": WHOLE}),
        "managedBy": _MANAGERS,
        "deletionStrategy": _record(
            {
                "onSuccess": _record({"policy": _DELETION}),
                "onFailure": _record({"policy": _DELETION}),
                "deletionRules": _list(
                    _record(
                        {
                            "policy": _DELETION,
                            "condition": _record(
                                {
                                    "jobStatus": _one_of("SUCCEEDED", "FAILED"),
                                    "jobDeploymentStatus": _one_of("Failed"),
                                    "ttlSeconds": {**WHOLE, "minimum": 0},
                                }
                            ),
                        },
                        required=("policy", "condition"),
                    )
                ),
            }
        ),
        "entrypoint": TEXT,
        "runtimeEnvYAML": TEXT,
        "jobId": TEXT,
        "submissionMode": _one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
        "entrypointResources": TEXT,
        "entrypointNumCpus": NUMBER,
        "entrypointNumGpus": NUMBER,
        "ttlSecondsAfterFinished": WHOLE,
        "preRunningDeadlineSeconds": {**WHOLE, "minimum": 1},
        "shutdownAfterJobFinishes": YES_NO,
        "suspend": YES_NO,
    }
)


def _resource(spec: Schema) -> Schema:
    fields = {
        "apiVersion": TEXT,
        "kind": TEXT,
        "metadata": _core("apimachinery.pkg.apis.meta.v1.ObjectMeta"),
        "spec": spec,
    }
    return _record(fields, required=("apiVersion", "kind", "metadata", "spec"))


_RESOURCES: dict[str, Schema] = {
    "ray.io/v1/RayCluster": _resource(_CLUSTER),
    "ray.io/v1/RayJob": _resource(_JOB),
    "v1/PersistentVolumeClaim": _core("api.core.v1.PersistentVolumeClaim"),
    "networking.k8s.io/v1/NetworkPolicy": _core("api.networking.v1.NetworkPolicy"),
}
