terraform {
  required_version = ">= 1.9, < 2"

  required_providers {
    # azurerm_container_app_environment cannot set the idle timeout of the ingress.
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
