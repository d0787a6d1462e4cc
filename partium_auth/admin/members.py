"""Members and invitations: for operators, and for developers where ``PARTIUM_DEVELOPERS_MANAGE_MEMBERS`` says so."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.db.models import Case, QuerySet, TextChoices, Value, When
from django.http import HttpRequest
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from partium_auth import policy
from partium_auth.accounts.redirects import login_page_url
from partium_auth.admin.display import copyable
from partium_auth.admin.organization_choice import OrganizationField, OrganizationFilter
from partium_auth.admin.permissions import PolicyAdmin, actor_of, permissions_of
from partium_auth.host.local_time import local_date
from partium_auth.models import Invitation, Membership, Role
from partium_auth.services import members


class PersonField(forms.CharField):
    """Takes the user name of a person instead of offering a list of the host's users; its value is the user."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(label=_("User name"), help_text=_("Exactly as the person's account says."), **kwargs)

    def clean(self, value: Any) -> Any:
        model = get_user_model()
        try:
            return model._default_manager.get_by_natural_key(super().clean(value))
        except model.DoesNotExist:
            raise ValidationError(
                _("There is no such account. People who have not logged in here yet can be invited.")
            ) from None


class MembershipForm(forms.ModelForm):  # type: ignore[type-arg]
    person = PersonField()

    class Meta:
        model = Membership
        fields = ("role",)


class InvitationForm(forms.ModelForm):  # type: ignore[type-arg]
    actor: ClassVar[Any] = None

    class Meta:
        model = Invitation
        fields = ("email", "role")
        help_texts: ClassVar = {
            "email": _(
                "Nothing is sent: tell the person. They become a member when they next log in with this address. "
                "The login says so, and they can decline."
            )
        }

    def clean_email(self) -> str:
        return members.clean_invited(self.cleaned_data["email"], actor=self.actor)

    def clean(self) -> dict[str, Any] | None:
        data = super().clean() or self.cleaned_data
        organization, email, role = (data.get(name) for name in ("organization", "email", "role"))
        self.member = members.member_known_as(organization, email) if organization and email else None
        if self.member is not None and role in (self.member.role, Role.MEMBER):  # an invitation lowers no role
            text = _("This person is a member of %(organization)s already, with the role %(role)s.")
            self.add_error("email", text % {"organization": organization, "role": self.member.get_role_display()})
        return data


class _MembersAdmin(PolicyAdmin):
    def may_see_any(self, request: HttpRequest) -> bool:
        return permissions_of(request).manages_members

    def may_see(self, request: HttpRequest, obj: Any) -> bool:
        return permissions_of(request).may_manage_members(obj.organization_id)

    has_delete_permission = PolicyAdmin.has_view_permission

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)
        if obj is not None:
            return form
        organizations = policy.member_organizations(actor_of(request))
        # The class is made for this request, because the choices depend on the person.
        return type(
            form.__name__,
            (form,),
            {"organization": OrganizationField(organizations, self, request), "actor": actor_of(request)},
        )


class MembershipAdmin(_MembersAdmin):
    visible = staticmethod(policy.visible_members)
    form = MembershipForm
    list_display = ("person_name", "organization_name", "role", "origin", "created_at")
    list_select_related = ("user", "organization")
    list_filter = ("role", "origin", OrganizationFilter)
    search_help_text = _("User name or organization")
    ordering = ("-created_at",)
    delete_confirmation_template = "admin/partium_auth/membership/delete_confirmation.html"
    delete_selected_confirmation_template = "admin/partium_auth/membership/delete_selected_confirmation.html"

    # A method, because Django writes foreign keys on one line, however long.
    @admin.display(description=_("person"), ordering="user")
    def person_name(self, membership: Membership) -> str:
        return str(membership.user)

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        model = get_user_model()
        fields = [f"user__{model.USERNAME_FIELD}", "organization__display_name", "organization__org_id"]
        email = model.get_email_field_name()
        # Developers do not see addresses, so searching them would reveal them one letter at a time.
        if not permissions_of(request).is_operator:
            return tuple(fields if model.__str__ is AbstractBaseUser.__str__ else fields[1:])
        if email != model.USERNAME_FIELD and any(field.name == email for field in model._meta.fields):
            fields.append(f"user__{email}")
        return tuple(fields)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return permissions_of(request).is_operator

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # The next login would undo a change of a membership from claims.
        return permissions_of(request).is_operator and (obj is None or obj.origin == "admin")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return (
            ("person_name", "organization_name", "role", "origin", "created_at")
            if obj
            else ("person", "organization", "role")
        )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("person_name", "organization_name", "origin", "created_at") if obj else ()

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        if obj is not None:
            kwargs["form"] = forms.ModelForm
        return super().get_form(request, obj, change=change, **kwargs)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        user = obj.user if change else form.cleaned_data["person"]
        organization = obj.organization if change else form.cleaned_data["organization"]
        stored = members.add_member(organization, user, role=obj.role, actor=actor_of(request))
        obj.pk, obj.user, obj.organization = stored.pk, user, organization
        if change and obj.role != Role.DEVELOPER:
            self._tell_of_last_developer(request, organization)
        obj._state.adding = False

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        members.remove_member(obj.organization, obj.user, actor=actor_of(request))
        self._tell_of_last_developer(request, obj.organization)

    def _tell_of_last_developer(self, request: HttpRequest, organization: Any) -> None:
        if not policy.has_developer(organization):
            text = gettext(
                "%(organization)s has no developer any more. Its keys keep working, but only the site's operators can "
                "manage them and its members."
            )
            messages.warning(request, text % {"organization": organization})

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        # remove_member() takes all origins of a person. The acting developer comes last: afterwards they may remove nobody.
        chosen = {(row.organization_id, row.user_id): row for row in queryset.select_related("organization", "user")}
        for membership in sorted(chosen.values(), key=lambda row: row.user_id == request.user.pk):
            self.delete_model(request, membership)


class InvitationState(TextChoices):
    OPEN = "open", _("open")
    ACCEPTED = "accepted", _("accepted")
    DECLINED = "declined", _("declined")
    EXPIRED = "expired", _("expired")


class InvitationStateFilter(admin.SimpleListFilter):
    title = _("status")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[Any]:
        return list(InvitationState.choices)

    def queryset(self, request: HttpRequest, queryset: Any) -> QuerySet[Any]:
        rows: QuerySet[Any] = queryset
        return rows if self.value() is None else rows.filter(current=self.value())


class InvitationAdmin(_MembersAdmin):
    visible = staticmethod(policy.visible_invitations)
    form = InvitationForm
    opens_after_add = True
    list_display = ("email", "organization_name", "role", "state", "inviter", "expires_at")
    list_select_related = ("organization", "invited_by")
    list_filter = (InvitationStateFilter, "role", OrganizationFilter)
    search_fields = ("email", "organization__display_name", "organization__org_id")
    search_help_text = _("E-mail address or organization")
    ordering = ("-created_at",)
    delete_confirmation_template = "admin/partium_auth/invitation/delete_confirmation.html"
    delete_selected_confirmation_template = "admin/partium_auth/invitation/delete_selected_confirmation.html"
    readonly_fields = ("organization_name", "state", "inviter", "created_at", "expires_at")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.may_see_any(request)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        current = Case(
            When(declined_at__isnull=False, then=Value(InvitationState.DECLINED)),
            When(accepted_at__isnull=False, then=Value(InvitationState.ACCEPTED)),
            When(expires_at__gt=timezone.now(), then=Value(InvitationState.OPEN)),
            default=Value(InvitationState.EXPIRED),
        )
        invitations: QuerySet[Any] = super().get_queryset(request).annotate(current=current)
        return invitations

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> Any:
        if self.has_add_permission(request):
            policy.require_fresh_login(actor_of(request))
        return super().add_view(request, form_url, extra_context)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return (
            ("email", "organization_name", "role", "state", "inviter", "created_at", "expires_at")
            if obj
            else ("email", "organization", "role")
        )

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        invitation = kwargs.get("obj")
        if invitation is not None and invitation.current == InvitationState.OPEN:
            text = gettext(
                "You are invited to %(organization)s. Log in at %(url)s as %(email)s, at the latest on %(date)s. The login "
                "tells you that you were invited, and you can decline."
            )
            context["text_to_send"] = copyable(
                text
                % {
                    "organization": invitation.organization,
                    "url": request.build_absolute_uri(login_page_url()),
                    "email": invitation.email,
                    "date": date_format(local_date(invitation.expires_at)),
                }
            )
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=_("invited by"))
    def inviter(self, invitation: Invitation) -> str:
        return str(invitation.invited_by or "–")

    @admin.display(description=_("status"))
    def state(self, invitation: Any) -> str:
        state = InvitationState(invitation.current)
        color = {InvitationState.OPEN: "unverified", InvitationState.ACCEPTED: "active"}.get(state, "expired")
        return format_html('<span class="partium-state partium-{}">{}</span>', color, state.label)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        stored = members.invite(
            form.cleaned_data["organization"],
            obj.email,
            role=obj.role,
            actor=actor_of(request),
        )
        if form.member is not None:
            messages.info(request, gettext("This person is a member already: the invitation makes them a developer."))
        obj.pk, obj.organization, obj.expires_at = stored.pk, stored.organization, stored.expires_at
        obj._state.adding = False

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        members.withdraw_invitation(obj, actor=actor_of(request))
