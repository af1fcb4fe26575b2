# The virtual network of the gateway: a subnet for the Container Apps environment, one for private endpoints, and the
# private DNS zones of the services behind them. Each part may exist already.

locals {
  create_network = var.existing_virtual_network_id == ""

  virtual_network_id          = local.create_network ? azurerm_virtual_network.this[0].id : var.existing_virtual_network_id
  container_apps_subnet_id    = local.create_network ? azurerm_subnet.container_apps[0].id : var.existing_container_apps_subnet_id
  private_endpoints_subnet_id = local.create_network ? azurerm_subnet.private_endpoints[0].id : var.existing_private_endpoints_subnet_id

  new_zones = { for key, name in var.private_dns_zone_names : key => name if !contains(keys(var.existing_private_dns_zone_ids), key) }
}

resource "azurerm_virtual_network" "this" {
  count = local.create_network ? 1 : 0

  name                = var.virtual_network_name
  resource_group_name = var.resource_group_name
  location            = var.location
  address_space       = var.address_space
  tags                = var.tags
}

resource "azurerm_subnet" "container_apps" {
  count = local.create_network ? 1 : 0

  name                 = "snet-container-apps"
  resource_group_name  = var.resource_group_name
  virtual_network_name = azurerm_virtual_network.this[0].name
  address_prefixes     = [var.container_apps_subnet_prefix]

  delegation {
    name = "container-apps"

    service_delegation {
      name    = "Microsoft.App/environments"
      actions = ["Microsoft.Network/virtualNetworks/subnets/join/action"]
    }
  }
}

resource "azurerm_subnet" "private_endpoints" {
  count = local.create_network ? 1 : 0

  name                 = "snet-private-endpoints"
  resource_group_name  = var.resource_group_name
  virtual_network_name = azurerm_virtual_network.this[0].name
  address_prefixes     = [var.private_endpoints_subnet_prefix]
  # Without this, the rules of the security group have no effect on private endpoints.
  private_endpoint_network_policies = "NetworkSecurityGroupEnabled"
}

resource "azurerm_network_security_group" "container_apps" {
  count = local.create_network ? 1 : 0

  name                = "nsg-container-apps-${var.virtual_network_name}"
  resource_group_name = var.resource_group_name
  location            = var.location
  tags                = var.tags
}

# Azure's default rules let the virtual network and the load balancer in. This rule is for clients outside.
resource "azurerm_network_security_rule" "clients" {
  count = local.create_network && length(var.client_address_prefixes) > 0 ? 1 : 0

  name                        = "clients"
  resource_group_name         = var.resource_group_name
  network_security_group_name = azurerm_network_security_group.container_apps[0].name
  priority                    = 100
  direction                   = "Inbound"
  access                      = "Allow"
  protocol                    = "Tcp"
  # A service tag such as Internet is only valid as a single prefix.
  source_address_prefix      = length(var.client_address_prefixes) == 1 ? var.client_address_prefixes[0] : null
  source_address_prefixes    = length(var.client_address_prefixes) == 1 ? null : var.client_address_prefixes
  source_port_range          = "*"
  destination_address_prefix = var.container_apps_subnet_prefix
  # 31443 is the port of the ingress behind the load balancer.
  destination_port_ranges = ["443", "31443"]
}

resource "azurerm_subnet_network_security_group_association" "container_apps" {
  count = local.create_network ? 1 : 0

  subnet_id                 = azurerm_subnet.container_apps[0].id
  network_security_group_id = azurerm_network_security_group.container_apps[0].id
}

resource "azurerm_network_security_group" "private_endpoints" {
  count = local.create_network ? 1 : 0

  name                = "nsg-private-endpoints-${var.virtual_network_name}"
  resource_group_name = var.resource_group_name
  location            = var.location
  tags                = var.tags

  security_rule {
    name                       = "gateway"
    priority                   = 100
    direction                  = "Inbound"
    access                     = "Allow"
    protocol                   = "Tcp"
    source_address_prefix      = "VirtualNetwork"
    source_port_range          = "*"
    destination_address_prefix = var.private_endpoints_subnet_prefix
    # HTTPS of the accounts and the vault; 10000 and 8500 to 8599 of Azure Managed Redis.
    destination_port_ranges = ["443", "10000", "8500-8599"]
  }

  security_rule {
    name                       = "nothing-else"
    priority                   = 4096
    direction                  = "Inbound"
    access                     = "Deny"
    protocol                   = "*"
    source_address_prefix      = "*"
    source_port_range          = "*"
    destination_address_prefix = "*"
    destination_port_range     = "*"
  }
}

resource "azurerm_subnet_network_security_group_association" "private_endpoints" {
  count = local.create_network ? 1 : 0

  subnet_id                 = azurerm_subnet.private_endpoints[0].id
  network_security_group_id = azurerm_network_security_group.private_endpoints[0].id
}

resource "azurerm_private_dns_zone" "this" {
  for_each = local.new_zones

  name                = each.value
  resource_group_name = var.resource_group_name
  tags                = var.tags
}

# Zones that exist already are linked by whoever owns them.
resource "azurerm_private_dns_zone_virtual_network_link" "this" {
  for_each = local.new_zones

  name                 = "link-${each.key}"
  private_dns_zone_id  = azurerm_private_dns_zone.this[each.key].id
  virtual_network_id   = local.virtual_network_id
  registration_enabled = false
  tags                 = var.tags
}
