{{/* What the operator may do. Each rule names the code that needs it. */}}
{{- define "operator.rules" -}}
# watches: the resources themselves.
- apiGroups: [iot-connectors.dev]
  resources: [azureiothubconnectors]
  verbs: [get, list, watch]
# apply: their status.
- apiGroups: [iot-connectors.dev]
  resources: [azureiothubconnectors/status]
  verbs: [patch]
# apply: children block the deletion of their owner, which some clusters let only those do who may
# set its finalizers.
- apiGroups: [iot-connectors.dev]
  resources: [azureiothubconnectors/finalizers]
  verbs: [update]
# desired/role: granted to each connector, so it must be held here. It marks the connector's identity
# for the admission policy and opens nothing by itself.
- apiGroups: [iot-connectors.dev]
  resources: [azureiothubconnectors]
  verbs: [use]
# watches, resolve: which Secrets exist (metadata), and the values that a resource refers to. They are
# digested and dropped; none is kept.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch]
# watches, resolve: the same for certificates. apply: the connectors' settings, made and removed.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, patch, delete]
# apply: the connectors' identities.
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get, list, watch, create, patch]
# apply: the connectors' rights.
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings]
  verbs: [get, list, watch, create, patch]
# apply: the connectors' pods; kubectl scale on a resource goes through its own subresource.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch]
# observe: which settings are in use.
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [list, watch]
# observe: why a pod does not run. reconcile/members: one with old settings or secrets makes room for another.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, delete]
# apply: one pod at a time when nodes are drained.
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch]
# watches: reports of the members. The rest is granted to the connectors (desired/role), and nobody can
# grant what he does not hold.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get, list, watch, create, update, patch, delete]
# event: transitions of the Ready condition.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}
