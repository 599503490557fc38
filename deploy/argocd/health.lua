-- The health of an InstanceRoleBinding in Argo CD. argocd-cm.yaml holds it ready to apply; a test compares the two.
--
-- All conditions are read before anything is concluded: their order says nothing.

local health = { status = "Progressing", message = "waiting for the controller" }
if obj.status == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return health
end

local conditions = {}
for _, condition in ipairs(obj.status.conditions or {}) do
  conditions[condition.type] = condition
end
local ready = conditions.Ready
if ready == nil then
  return health
end

local function holds(type)
  return conditions[type] ~= nil and conditions[type].status == "True"
end

health.message = ready.message
if holds("Suspended") then
  health.status = "Suspended"
elseif holds("Stalled") then
  health.status = "Degraded"
  health.message = conditions.Stalled.message
elseif holds("Ready") then
  health.status = "Healthy"
end
return health
