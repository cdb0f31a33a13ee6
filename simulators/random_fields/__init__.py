"""Gaussian random fields: covariance, kriging, Karhunen-Loeve coordinates, draws."""

from simulators.random_fields.covariance import Covariance, Kernel, covariance_matrix
from simulators.random_fields.karhunen_loeve import (
    KarhunenLoeve,
    coordinates_of,
    fields_from_coordinates,
    karhunen_loeve,
    sample_coordinates,
    sample_members,
)
from simulators.random_fields.kriging import (
    FittedField,
    Kriging,
    fit_covariance,
    generalised_mean,
    krige,
    log_likelihood,
)
from simulators.random_fields.members import member_generator

__all__ = [
    "Covariance",
    "FittedField",
    "KarhunenLoeve",
    "Kernel",
    "Kriging",
    "coordinates_of",
    "covariance_matrix",
    "fields_from_coordinates",
    "fit_covariance",
    "generalised_mean",
    "karhunen_loeve",
    "krige",
    "log_likelihood",
    "member_generator",
    "sample_coordinates",
    "sample_members",
]
