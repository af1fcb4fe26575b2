# Mocked providers have no ephemeral resources, so azapi and random are real. Nothing calls Azure: the resources of azapi
# are overridden, and a plan does not know the database whose key it would read.
provider "azapi" {
  subscription_id = "00000000-0000-0000-0000-000000000000"
  tenant_id       = "11111111-1111-1111-1111-111111111111"
}
mock_provider "azurerm" {}

override_resource {
  target          = azapi_resource.cluster
  override_during = plan
  values = {
    id     = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Cache/redisEnterprise/amr-genai"
    output = { host = "amr-genai.westeurope.redis.azure.net" }
  }
}

variables {
  kind                = "managed"
  name                = "amr-genai"
  resource_group_name = "rg"
  resource_group_id   = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg"
  location            = "westeurope"
  key_vault_id        = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/kv"
  key_vault_uri       = "https://kv.vault.azure.net/"
}

run "managed_redis_speaks_tls_and_is_no_cluster" {
  command = plan

  assert {
    condition     = azapi_resource.database[0].body.properties.clientProtocol == "Encrypted" && azapi_resource.cluster[0].body.properties.minimumTlsVersion == "1.2" && output.tls && output.port == 10000
    error_message = "Azure Managed Redis speaks TLS only."
  }
  assert {
    condition     = azapi_resource.database[0].body.properties.clusteringPolicy == "NoCluster"
    error_message = "The gateway's client speaks to one node."
  }
  assert {
    condition     = output.host == "amr-genai.westeurope.redis.azure.net" && output.secret_name == "responses-affinity-redis-password"
    error_message = "The gateway gets the host, and the name of the secret."
  }
  assert {
    condition     = length(azurerm_container_app.this) == 0 && length(azurerm_private_endpoint.this) == 0
    error_message = "Nothing else is made."
  }
}

run "with_isolation_only_the_private_endpoint_reaches_it" {
  command = plan
  variables {
    network_isolation          = true
    private_endpoint_subnet_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Network/virtualNetworks/vnet/subnets/pe"
    private_dns_zone_id        = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Network/privateDnsZones/privatelink.redis.azure.net"
  }
  assert {
    condition     = azapi_resource.cluster[0].body.properties.publicNetworkAccess == "Disabled" && one(azurerm_private_endpoint.this[0].private_service_connection).subresource_names == tolist(["redisEnterprise"])
    error_message = "The Redis has a private endpoint and no public one."
  }
}

run "a_container_reads_its_password_from_the_vault" {
  command = apply
  variables {
    kind                         = "container"
    name                         = "ca-redis-genai"
    container_app_environment_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.App/managedEnvironments/cae"
    vault_identity_id            = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-vault"
  }
  assert {
    condition     = one(azurerm_container_app.this[0].secret).key_vault_secret_id == "https://kv.vault.azure.net/secrets/responses-affinity-redis-password" && one(azurerm_container_app.this[0].secret).identity == var.vault_identity_id
    error_message = "The password is a reference to the vault."
  }
  assert {
    condition     = azurerm_key_vault_secret.container[0].value_wo == null && azurerm_key_vault_secret.container[0].value_wo_version == 1
    error_message = "The password is in no state."
  }
  assert {
    condition     = azurerm_container_app.this[0].ingress[0].external_enabled == false && azurerm_container_app.this[0].ingress[0].transport == "tcp"
    error_message = "Only apps of the environment reach the container."
  }
  assert {
    condition     = strcontains(azurerm_container_app.this[0].template[0].container[0].args[0], "--maxmemory") && !strcontains(azurerm_container_app.this[0].template[0].container[0].args[0], "--requirepass")
    error_message = "Memory has a limit, and the password is in no argument."
  }
  assert {
    condition     = output.host == "ca-redis-genai" && output.port == 6379 && !output.tls && length(azapi_resource.cluster) == 0
    error_message = "The gateway gets the container's name and port."
  }
}

run "a_container_without_environment_and_identity_is_refused" {
  command = plan
  variables {
    kind = "container"
  }
  expect_failures = [var.container_app_environment_id, var.vault_identity_id]
}

run "a_container_with_a_wrong_name_is_refused" {
  command = plan
  variables {
    kind                         = "container"
    name                         = "Redis"
    container_app_environment_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.App/managedEnvironments/cae"
    vault_identity_id            = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-vault"
  }
  expect_failures = [azurerm_container_app.this]
}

run "managed_redis_with_a_wrong_name_is_refused" {
  command = plan
  variables {
    name = "amr_genai"
  }
  expect_failures = [azapi_resource.cluster]
}

run "an_unknown_kind_is_refused" {
  command = plan
  variables {
    kind = "cluster"
  }
  expect_failures = [var.kind]
}

run "a_size_that_is_always_a_cluster_is_refused" {
  command = plan
  variables {
    sku_name = "Balanced_B50"
  }
  expect_failures = [var.sku_name]
}

run "an_image_without_a_version_is_refused" {
  command = plan
  variables {
    image = "docker.io/library/redis:latest"
  }
  expect_failures = [var.image]
}

run "isolation_without_a_subnet_is_refused" {
  command = plan
  variables {
    network_isolation = true
  }
  expect_failures = [var.network_isolation]
}

run "a_version_of_zero_is_refused" {
  command = plan
  variables {
    secret_version = 0
  }
  expect_failures = [var.secret_version]
}
