from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models


class Members(BaseUserManager):
    def create_user(self, login, password):
        member = self.model(login=login)
        member.set_password(password)
        member.save()
        return member


class Member(AbstractBaseUser):
    login = models.CharField(max_length=20, unique=True)
    nickname = models.CharField(max_length=20, default="")
    objects = Members()
    USERNAME_FIELD = "login"
