terraform {
  required_version = ">= 1.9, < 2"

  required_providers {
    # azurerm has no resource for a dashboard with Grafana in the portal.
    azapi = {
      source  = "Azure/azapi"
      version = "~> 2.12"
    }
    azurerm = {
      source  = "hashicorp/azurerm"
      version = "~> 5.2"
    }
  }
}
