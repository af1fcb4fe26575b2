# The names of all resources follow one pattern: Azure's abbreviation of the resource type, the workload, the environment,
# the region's short code, and the identifier. Examples: log-genai-dev-we, kv-genai-prod-eus-1a2b3.
locals {
  location = lower(replace(var.location, " ", ""))

  # The short codes that Azure Backup uses for regions. A region without one is named by its first letters.
  short_codes = {
    australiacentral   = "acl"
    australiaeast      = "ae"
    australiasoutheast = "ase"
    austriaeast        = "aue"
    brazilsouth        = "brs"
    canadacentral      = "cnc"
    canadaeast         = "cne"
    centralindia       = "inc"
    centralus          = "cus"
    chilecentral       = "clc"
    eastasia           = "ea"
    eastus             = "eus"
    eastus2            = "eus2"
    francecentral      = "frc"
    germanywestcentral = "gwc"
    indonesiacentral   = "idc"
    israelcentral      = "ilc"
    italynorth         = "itn"
    japaneast          = "jpe"
    japanwest          = "jpw"
    koreacentral       = "krc"
    koreasouth         = "krs"
    malaysiawest       = "myw"
    mexicocentral      = "mxc"
    newzealandnorth    = "nzn"
    northcentralus     = "ncus"
    northeurope        = "ne"
    norwayeast         = "nwe"
    polandcentral      = "plc"
    qatarcentral       = "qac"
    southafricanorth   = "san"
    southcentralus     = "scus"
    southeastasia      = "sea"
    southindia         = "ins"
    spaincentral       = "spc"
    swedencentral      = "sdc"
    switzerlandnorth   = "szn"
    switzerlandwest    = "szw"
    uaenorth           = "uan"
    uksouth            = "uks"
    ukwest             = "ukw"
    usgovarizona       = "uga"
    usgovvirginia      = "ugv"
    westcentralus      = "wcus"
    westeurope         = "we"
    westindia          = "inw"
    westus             = "wus"
    westus2            = "wus2"
    westus3            = "wus3"
  }
  location_short = lookup(local.short_codes, local.location, substr(local.location, 0, 6))

  suffix  = join("-", compact([var.workload_name, var.environment_code, local.location_short, var.identifier]))
  compact = replace(local.suffix, "-", "")
  unique  = substr(sha256("${lower(var.subscription_id)}/${local.suffix}"), 0, 5)
}
