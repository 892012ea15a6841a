from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class GpubrokerConfig(AppConfig):
    name = "gpubroker"


class AdministrationConfig(AdminConfig):
    default_site = "gpubroker.administration.Administration"
